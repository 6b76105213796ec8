package linkspec

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// HostAccess is what of the host a guest may speak to.
type HostAccess string

// The values of HostAccess. What the host forwards is not to the host.
const (
	HostAll     HostAccess = "all"
	HostGateway HostAccess = "gateway" // ICMP, DHCP and DNS of a gateway; ARP and neighbour discovery
	HostNone    HostAccess = "none"    // ARP and neighbour discovery only
)

// How many of each a Guard may hold.
const (
	MaxGuardMACs      = 8
	MaxGuardHostMACs  = 4
	MaxGuardAddresses = 16 // of each family, link-local ones among them
	MaxGuardGateways  = 5  // of each family
	MaxGuardSubnets   = 8  // of each family
	MaxGuardGroups    = 4096
)

// Guard is what a guest behind a port may send. docs/security.md says what each
// rule stops.
type Guard struct {
	// MACs are the guest's own: source addresses. The first is its NIC's.
	MACs []net.HardwareAddr

	// L2Only is true where nobody gave the guest addresses, so that any may be
	// its own. The other rules hold all the same.
	L2Only bool

	// Addresses are the guest's own. The link-local addresses that follow from
	// its MACs (EUI-64) are too, without being in the list.
	Addresses []netip.Prefix

	// Gateways are addresses that the guest never is, and that stay in reach
	// when it is isolated.
	Gateways []netip.Addr

	VLANs []int // the tags that it may send; none: only frames without a tag

	// Subnets are those that the guest's addresses are in. Isolate keeps them, but
	// for the gateways, out of its reach; without it those that there is no room for
	// are left out.
	Subnets []netip.Prefix
	Isolate bool

	// HostAccess is HostAll if it is "". For anything else, and for whom link-local
	// addresses are among Addresses, Router is the interface index of the device
	// (the bridge) with which the host takes the guest's frames, and HostMACs are
	// addresses that it listens to.
	HostAccess HostAccess
	Router     int
	HostMACs   []net.HardwareAddr

	// Via is the name of the router in a guard that is declared. The kernel tells
	// the program which index and addresses that is, and turns them back; the
	// router's link-local address is a gateway's, too.
	Via string

	ReachMetadata bool // may reach the cloud's metadata service
	VRRP          bool // may send VRRP

	// Bypass names what frames meet before the guard, and may get past it by. It is
	// never declared.
	Bypass string

	// Instead says what is in the place of a guard that is off, if anything is. It is
	// never declared.
	Instead string

	// StormLimit is how many frames to groups (broadcast and multicast) may pass
	// a second, and at once after a pause; 0 for no limit.
	StormLimit int

	// GroupLimit is how many multicast groups the guest may report at once after a
	// pause, and in each 256 s after that; 0 for no limit.
	GroupLimit int
}

// Canonical returns the guard as it is read back: prefixes masked, lists sorted
// (the NIC's MAC address stays first) and without duplicates, addresses that
// follow from the MACs left out, and nothing that does not count.
func (g Guard) Canonical() Guard {
	c := g
	c.MACs = canonicalMACs(g.MACs)
	c.HostMACs, c.Router, c.Via, c.Bypass, c.Instead = nil, 0, "", "", ""
	if c.HostAccess == "" {
		c.HostAccess = HostAll
	}
	if c.NeedsRouter() {
		c.HostMACs, c.Router, c.Via = canonicalMACs(g.HostMACs), g.Router, g.Via
	}
	c.Subnets = CanonicalSubnets(g.Subnets)
	if !g.Isolate {
		c.Subnets = first(c.Subnets, MaxGuardSubnets)
	}
	c.Addresses = nil
	if !g.L2Only {
		implied := g.LinkLocals()
		c.Addresses = slices.DeleteFunc(CanonicalSubnets(g.Addresses), func(p netip.Prefix) bool {
			return p.IsSingleIP() && slices.Contains(implied, p.Addr())
		})
	}
	c.Gateways = slices.Compact(slices.SortedFunc(slices.Values(g.Gateways), netip.Addr.Compare))
	c.VLANs = slices.Compact(slices.Sorted(slices.Values(g.VLANs)))
	return c
}

// Off tells whether this is no guard at all: one that knows its guest has at
// least one address.
func (g Guard) Off() bool { return len(g.MACs) == 0 }

// NeedsRouter tells whether the rules depend on who routes for the guest: on what is
// the host's, or on which link-local address is the router's.
func (g Guard) NeedsRouter() bool {
	return g.HostAccess != HostAll && g.HostAccess != "" || !g.L2Only && slices.ContainsFunc(g.Addresses, linkLocal.Overlaps)
}

var linkLocal = netip.MustParsePrefix("fe80::/10")

// Equal tells whether two canonical guards are the same.
func (g Guard) Equal(o Guard) bool { return slices.Equal(g.Texts(), o.Texts()) }

// LinkLocals are the addresses that a host makes of its MACs (EUI-64).
func (g Guard) LinkLocals() []netip.Addr {
	var all []netip.Addr
	for _, m := range g.MACs {
		all = append(all, LinkLocal(m))
	}
	return all
}

// LinkLocal is the address that a host makes of a MAC address (EUI-64).
func LinkLocal(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// Texts is the guard as text, a rule each.
func (g Guard) Texts() []string {
	var all []string
	list := func(name string, n int, text func(int) string) {
		var words []string
		for i := range n {
			words = append(words, text(i))
		}
		if n > 0 {
			all = append(all, name+" "+strings.Join(words, " "))
		}
	}
	list("macs", len(g.MACs), func(i int) string { return g.MACs[i].String() })
	if g.L2Only {
		all = append(all, "any address")
	}
	list("addresses", len(g.Addresses), func(i int) string { return g.Addresses[i].String() })
	list("gateways", len(g.Gateways), func(i int) string { return g.Gateways[i].String() })
	list("vlans", len(g.VLANs), func(i int) string { return strconv.Itoa(g.VLANs[i]) })
	if g.Isolate {
		all = append(all, "isolated")
	}
	list("subnets", len(g.Subnets), func(i int) string { return g.Subnets[i].String() })
	all = append(all, "host "+string(g.HostAccess))
	if g.Router != 0 {
		all = append(all, "router "+strconv.Itoa(g.Router))
	}
	if g.Via != "" {
		all = append(all, "via "+g.Via)
	}
	list("host macs", len(g.HostMACs), func(i int) string { return g.HostMACs[i].String() })
	if g.ReachMetadata {
		all = append(all, "metadata")
	}
	if g.VRRP {
		all = append(all, "vrrp")
	}
	if g.StormLimit > 0 {
		all = append(all, "storm limit "+strconv.Itoa(g.StormLimit))
	}
	if g.GroupLimit > 0 {
		all = append(all, "group limit "+strconv.Itoa(g.GroupLimit))
	}
	if g.Bypass != "" {
		all = append(all, "after a "+g.Bypass)
	}
	return all
}

// Check returns a cnierr.Config error for a guard that makes no sense or does
// not fit.
func (g Guard) Check() error {
	if len(g.MACs) == 0 {
		return cnierr.New(cnierr.Config, "give the guest's MAC address", "the guard knows no MAC address of the guest")
	}
	for _, m := range slices.Concat(g.MACs, g.HostMACs) {
		if len(m) != 6 || m[0]&1 != 0 || bytes.Equal(m, make([]byte, 6)) {
			return cnierr.New(cnierr.Config, "give a unicast address of six bytes", "the guard cannot allow the MAC address %v", m)
		}
	}
	for _, p := range slices.Concat(g.Addresses, g.Subnets) {
		if !p.IsValid() || p.Addr().Is4In6() || p.Addr().IsMulticast() || p.IsSingleIP() && p.Addr().IsUnspecified() {
			return cnierr.New(cnierr.Config, "write addresses like 10.1.2.3/32 or fd00::/64", "the guard cannot allow the addresses %v", p)
		}
	}
	for _, v := range g.VLANs {
		if v < 1 || v > 4094 {
			return cnierr.New(cnierr.Config, "VLAN IDs are 1 to 4094", "the guard cannot allow VLAN %d", v)
		}
	}
	if !slices.Contains([]HostAccess{"", HostAll, HostGateway, HostNone}, g.HostAccess) {
		return cnierr.New(cnierr.Config, `hostAccess is "all", "gateway" or "none"`, "the guard does not know hostAccess %q", g.HostAccess)
	}
	return g.checkCounts()
}

func (g Guard) checkCounts() error {
	const ofAddresses = "write them as fewer, shorter prefixes, or allow fewer: the guest's own from IPAM count, and of IPv6 the link-local address of each MAC address"
	c := g.Canonical()
	subnets := 0 // that have to be there
	if g.Isolate {
		subnets = len(c.Subnets)
	}
	v4, v6 := 0, len(g.LinkLocals())
	for _, p := range c.Addresses {
		if p.Addr().Is4() {
			v4++
		} else {
			v6++
		}
	}
	for _, n := range []struct {
		what, advice string
		got, max     int
	}{
		{"MAC addresses", "allow fewer", len(c.MACs), MaxGuardMACs},
		{"IPv4 addresses", ofAddresses, v4, MaxGuardAddresses},
		{"IPv6 addresses", ofAddresses, v6, MaxGuardAddresses},
		{"gateways", "give the guest fewer addresses with gateways", len(c.Gateways), MaxGuardGateways},
		{"subnets", "write them as fewer, shorter prefixes, or do not isolate", subnets, MaxGuardSubnets},
		{"MAC addresses of the host", "use a bridge with fewer", len(c.HostMACs), MaxGuardHostMACs},
	} {
		if n.got > n.max {
			return cnierr.New(cnierr.Config, n.advice, "the guard holds %d %s at most, not %d", n.max, n.what, n.got)
		}
	}
	if g.StormLimit < 0 || g.StormLimit > 1e9 {
		return cnierr.New(cnierr.Config, "stormLimit is in frames a second; 0 is no limit", "the guard cannot limit storms to %d", g.StormLimit)
	}
	if g.GroupLimit < 0 || g.GroupLimit > MaxGuardGroups {
		return cnierr.New(cnierr.Config, "groupLimit is in multicast groups; 0 is no limit", "the guard cannot limit multicast groups to %d", g.GroupLimit)
	}
	return nil
}

func canonicalMACs(macs []net.HardwareAddr) []net.HardwareAddr {
	if len(macs) == 0 {
		return nil
	}
	rest := slices.SortedFunc(slices.Values(macs[1:]), func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
	c := []net.HardwareAddr{macs[0]}
	for _, m := range rest {
		if !bytes.Equal(m, macs[0]) && !bytes.Equal(m, c[len(c)-1]) {
			c = append(c, m)
		}
	}
	return c
}

// first returns so many of the prefixes of each family.
func first(prefixes []netip.Prefix, most int) []netip.Prefix {
	var kept []netip.Prefix
	count := map[bool]int{}
	for _, p := range prefixes {
		if v4 := p.Addr().Is4(); count[v4] < most {
			kept = append(kept, p)
			count[v4]++
		}
	}
	return kept
}
