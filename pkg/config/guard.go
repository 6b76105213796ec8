package config

import (
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// HostAccess is what of the host a guest reaches.
type HostAccess string

// What of the host a guest reaches.
const (
	HostAll     HostAccess = "all"
	HostGateway HostAccess = "gateway" // ARP, ICMP, DHCP and DNS on the gateway's address
	HostNone    HostAccess = "none"    // what a router is needed for, and nothing that ends there
)

// Guard is what holds a guest to its own addresses.
type Guard struct {
	Off bool // the guest may send what it likes

	// What a guest may use beside what IPAM and the runtime gave it.
	Addresses []netip.Prefix
	MACs      []net.HardwareAddr

	Isolate    bool // from other guests, through the gateway too
	HostAccess HostAccess
	Metadata   bool // keep it from the cloud's metadata service
	GroupLimit int  // multicast groups at once, and in each 256 s; 0 for no limit
	StormLimit int  // broadcast and multicast frames a second; 0 for no limit
}

const (
	defaultStormLimit = 1000    // frames a second
	maxStormLimit     = 1000000 // no tap carries more
	defaultGroupLimit = 128     // multicast groups
	maxGroupLimit     = 4096    // as many as a bridge keeps by default
	maxExtraMACs      = 7       // the guest's own is the eighth
)

var guardKeys = []string{"mode", "addresses", "macs", "isolate", "hostAccess", "metadata", "stormLimit", "groupLimit"}

// guard reads "guard", and "macspoofchk", which asks for a part of what a guard does.
func (r *reader) guard() Guard {
	sub := r.object("guard")
	maps.DeleteFunc(sub.vals, func(key string, _ json.RawMessage) bool { return strings.Contains(key, "/") }) // remarks, as at the top
	for _, key := range slices.Sorted(maps.Keys(sub.vals)) {
		if !slices.Contains(guardKeys, key) {
			advice := "remove the key; guard knows mode, addresses, macs, isolate, hostAccess, metadata, stormLimit, groupLimit"
			if near := nearest(key, guardKeys); near != "" {
				advice = `did you mean "` + near + `"?`
			}
			sub.fail(cnierr.New(cnierr.UnsupportedField, advice, "unknown key %s in guard with value %s", quote(key), show(sub.vals[key])))
		}
	}
	g := Guard{
		Off:        sub.guardMode(),
		Addresses:  sub.prefixes("addresses"),
		MACs:       sub.macs("macs"),
		Isolate:    sub.flag("isolate"),
		HostAccess: sub.hostAccess(),
		Metadata:   !sub.has("metadata") || sub.flag("metadata"),
		StormLimit: defaultStormLimit, GroupLimit: defaultGroupLimit,
	}
	if sub.has("groupLimit") {
		g.GroupLimit = int(sub.number("groupLimit", "multicast groups", 0, maxGroupLimit))
	}
	if sub.has("stormLimit") {
		g.StormLimit = int(sub.number("stormLimit", "frames a second", 0, maxStormLimit))
	}
	if g.Off {
		for _, key := range slices.Sorted(maps.Keys(sub.vals)) {
			if key != "mode" && !isOff(sub.vals[key]) {
				sub.fail(cnierr.New(cnierr.Config, `remove it, or say "mode": "enforce"`, `guard.%s: with "mode": "off" nothing is enforced`, key))
			}
		}
		if r.flag("macspoofchk") {
			sub.fail(cnierr.New(cnierr.Config, "remove one of the two: the guard is what checks MAC addresses", `macspoofchk and "guard": {"mode": "off"} contradict each other`))
		}
	}
	r.flag("macspoofchk") // false is no wish to be rid of the guard: it is the upstream default
	r.fail(sub.err)
	return g
}

func (r *reader) guardMode() (off bool) {
	mode := r.text("mode")
	if !slices.Contains([]string{"", "enforce", "off"}, mode) {
		r.fail(cnierr.New(cnierr.Config, `say "enforce" (or remove the key), or "off" to let the guest send what it likes`,
			"%s: %s is not a mode", r.at("mode"), quote(mode)))
	}
	return mode == "off"
}

func (r *reader) hostAccess() HostAccess {
	access := HostAccess(r.text("hostAccess"))
	switch access {
	case "":
		return HostAll
	case HostAll, HostGateway, HostNone:
		return access
	}
	r.fail(cnierr.New(cnierr.Config, `say "all" (or remove the key), "gateway" for ARP, ICMP, DHCP and DNS on the gateway only, or "none"`,
		"%s: %s is not known", r.at("hostAccess"), quote(string(access))))
	return access
}

// prefixes reads a list of addresses and subnets.
func (r *reader) prefixes(key string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range r.texts(key) {
		p, err := netip.ParsePrefix(text)
		if addr, single := netip.ParseAddr(text); single == nil && addr.Zone() == "" {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || !usable(p) {
			r.fail(cnierr.New(cnierr.Config, "write addresses like 10.0.0.5 or fd00::5, or subnets like 10.1.0.0/24 or fd01::/64",
				"%s: %s is no address that a guest could use", r.at(key), quote(text)))
			return nil
		}
		if p != p.Masked() {
			r.fail(cnierr.New(cnierr.Config, "write "+p.Addr().String()+" for the address, or "+p.Masked().String()+" for the whole subnet",
				"%s: %s is an address with a length, which may mean either", r.at(key), quote(text)))
			return nil
		}
		list = append(list, p)
	}
	return list
}

// usable tells whether a guest could send from there. Any address of a family is 0.0.0.0/0
// or ::/0.
func usable(p netip.Prefix) bool {
	a := p.Addr()
	return !a.Is4In6() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && (!a.IsUnspecified() || p.Bits() == 0)
}

func (r *reader) macs(key string) []net.HardwareAddr {
	var list []net.HardwareAddr
	for _, text := range r.texts(key) {
		mac, err := parseMAC(cnierr.Config, r.at(key), text)
		if err == nil && mac == nil {
			err = cnierr.New(cnierr.Config, "give 6 bytes such as 02:00:00:12:34:56", "%s: an entry is empty", r.at(key))
		}
		r.fail(err)
		list = append(list, mac)
	}
	if len(list) > maxExtraMACs {
		r.fail(cnierr.New(cnierr.Config, "allow fewer, or give the guest a network of its own without a guard: its bridge asks all ports for stations that it does not know", "%s: more than %d entries", r.at(key), maxExtraMACs))
	}
	return list
}
