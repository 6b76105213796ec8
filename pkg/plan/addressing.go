package plan

import (
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// minIPv6MTU is the least that a link with IPv6 may have, in bytes (RFC 8200, section 5).
const minIPv6MTU = 1280

// addressing is what the delegate's result means for the guest and the bridge.
type addressing struct {
	ips      []*types100.IPConfig
	routes   []*types.Route
	dns      types.DNS
	gateways []gateway
}

// gateway is an address that the bridge must have.
type gateway struct {
	prefix netip.Prefix
	dad    bool
}

// addressing checks the delegate's result before anything is made of it.
func (p *bridgePlan) addressing(r *types100.Result) (addressing, error) {
	if r == nil || len(r.IPs) == 0 {
		return addressing{}, p.delegateErr("check its configuration in \"ipam\"; for a guest without addresses leave \"ipam\" out", "returned no address")
	}
	a := addressing{dns: r.DNS, routes: r.Routes}
	for _, ip := range r.IPs {
		ours := ip.Copy()
		addr, err := p.address(ours)
		if err != nil {
			return addressing{}, err
		}
		gw, err := p.gateway(ours, addr)
		if err != nil {
			return addressing{}, err
		}
		if gw.IsValid() && p.conf.IsGateway {
			a.addGateway(gw, addr, p.conf.EnableDAD)
		}
		if gw.IsValid() && p.conf.IsDefaultGateway {
			a.defaultRoute(gw)
		}
		a.ips = append(a.ips, ours)
	}
	return a, nil
}

func (p *bridgePlan) delegateErr(details, format string, args ...any) error {
	return cnierr.New(cnierr.Delegate, details, "IPAM plugin %q "+format, append([]any{p.conf.IPAM.Type}, args...)...)
}

// address is the guest's address with the length of its prefix.
func (p *bridgePlan) address(ip *types100.IPConfig) (netip.Prefix, error) {
	addr, err := prefixOf(ip.Address)
	if err != nil || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() || addr.Addr().IsLoopback() {
		return netip.Prefix{}, p.delegateErr("no guest can have this address: check the ranges in \"ipam\"", "returned %q, which is no address of a host", ip.Address.String())
	}
	want := p.conf.IPAM.Families
	if (want.IPv4 || want.IPv6) && ((addr.Addr().Is4() && !want.IPv4) || (addr.Addr().Is6() && !want.IPv6)) {
		return netip.Prefix{}, p.delegateErr("the configuration asks for "+families(want)+" only: add a range of the other family, or mend the IPAM plugin",
			"returned %s, of an address family that nobody asked for", addr)
	}
	return addr, nil
}

func families(f config.Families) string {
	if f.IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// gateway checks the gateway of an address, and picks the first address of the
// subnet, as the upstream bridge plugin does, where there should be one.
func (p *bridgePlan) gateway(ip *types100.IPConfig, addr netip.Prefix) (netip.Addr, error) {
	if ip.Gateway == nil {
		if !p.conf.IsGateway {
			return netip.Addr{}, nil
		}
		first := addr.Masked().Addr().Next()
		if !addr.Contains(first) {
			return netip.Addr{}, p.delegateErr("give the address the length of its subnet (such as /24), or a \"gateway\", in \"ipam\", or where the runtime says it",
				"returned %s without a gateway, and a subnet in which there is no room for one", addr)
		}
		ip.Gateway = first.AsSlice()
	}
	gw, ok := netip.AddrFromSlice(ip.Gateway)
	gw = gw.Unmap()
	if !ok || gw.Is4() != addr.Addr().Is4() {
		return netip.Addr{}, p.delegateErr("correct \"gateway\" in \"ipam\"", "returned the gateway %q for %s: that is another address family", ip.Gateway, addr)
	}
	hostRoute := addr.IsSingleIP() && !p.conf.IsGateway // on-link by a route of its own
	if !addr.Contains(gw) && !gw.IsLinkLocalUnicast() && !hostRoute {
		return netip.Addr{}, p.delegateErr("a guest reaches its gateway only inside its own subnet: correct \"gateway\" or the subnet in \"ipam\"",
			"returned the gateway %s, which is outside the subnet of %s", gw, addr)
	}
	if gw == addr.Addr() {
		return netip.Addr{}, p.delegateErr("leave the gateway's address out of the ranges in \"ipam\" (host-local does so by itself)",
			"gave the guest the gateway's own address %s", gw)
	}
	return gw, nil
}

func prefixOf(n net.IPNet) (netip.Prefix, error) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, &net.ParseError{Type: "CIDR address", Text: n.String()}
	}
	addr = addr.Unmap()
	if addr.Is4() && bits == 128 {
		ones -= 96
	}
	return netip.PrefixFrom(addr, ones), nil
}

func (a *addressing) addGateway(gw netip.Addr, addr netip.Prefix, dad bool) {
	bits := addr.Bits()
	if gw.IsLinkLocalUnicast() && !addr.Contains(gw) {
		bits = 64
	}
	prefix := netip.PrefixFrom(gw, bits)
	for _, have := range a.gateways {
		if have.prefix == prefix {
			return
		}
	}
	a.gateways = append(a.gateways, gateway{prefix: prefix, dad: dad})
}

// defaultRoute makes the gateway that of the default route of its family, unless the
// delegate gave it one of its own.
func (a *addressing) defaultRoute(gw netip.Addr) {
	for i, r := range a.routes {
		if ones, bits := r.Dst.Mask.Size(); ones != 0 || (bits == 32) != gw.Is4() {
			continue
		}
		if r.GW == nil {
			through := *r
			through.GW = gw.AsSlice()
			a.routes[i] = &through
		}
		return
	}
	zero := net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if gw.Is6() {
		zero = net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	a.routes = append(a.routes, &types.Route{Dst: zero, GW: gw.AsSlice()})
}

// declare makes a device the gateway; own is true for one of this software's.
func (g gateway) declare(on *linkspec.Link, own bool) {
	on.Addresses = append(on.Addresses, linkspec.Address{Prefix: g.prefix, NoDAD: !g.dad, Exact: own})
	if g.prefix.Addr().Is6() {
		on.IPv6 = new(true)
	} else {
		on.Forwarding = new(true)
	}
}

// gatewayAddresses declares the gateways on the device that has them, most often
// the bridge, and refuses or removes what stands against them.
func (p *bridgePlan) gatewayAddresses(on *linkspec.Link, found linkspec.Link, gateways []gateway) error {
	for _, gw := range gateways {
		if gw.prefix.Addr().Is6() && *on.MTU < minIPv6MTU {
			return cnierr.New(cnierr.Config, "give the bridge an \"mtu\" of 1280 or more, or leave IPv6 out of \"ipam\"",
				"IPv6 needs an MTU of %d, %s %s has %d", minIPv6MTU, on.Kind, on.Name, *on.MTU)
		}
		gw.declare(on, on.Alias != nil)
	}
	for _, have := range found.Addresses {
		against := opposed(have.Prefix, gateways)
		if !against.IsValid() {
			continue
		}
		if !p.conf.ForceAddress {
			return standsAgainst(on.Kind, on.Name, have.Prefix, "the gateway "+against.String())
		}
		on.NoAddresses = append(on.NoAddresses, have.Prefix)
	}
	return nil
}

func standsAgainst(kind linkspec.Kind, name string, have netip.Prefix, against string) error {
	return cnierr.New(cnierr.Config,
		"give every network of one bridge and VLAN the same gateway, or another \"bridge\"; \"forceAddress\": true removes the other address",
		"%s %s has the address %s already, which stands against %s", kind, name, have, against)
}

// checkGateway refuses a device on which no gateway can be, whichever addresses the
// delegate gives: one with an IPv4 address of none of the delegate's subnets.
func (p *bridgePlan) checkGateway(f Facts) error {
	if !p.conf.IsGateway || p.conf.ForceAddress || p.conf.IPAM == nil {
		return nil
	}
	subnets := slices.DeleteFunc(slices.Clone(p.conf.IPAM.Subnets), func(s netip.Prefix) bool { return !s.Addr().Is4() })
	if len(subnets) == 0 {
		return nil
	}
	on := f[p.conf.Bridge]
	if p.hasGatewayDevice() && !p.inVLAN(on) {
		on = f[p.gatewayName()]
	}
	for _, have := range on.Addresses {
		if have.Prefix.Addr().Is4() && !slices.ContainsFunc(subnets, have.Prefix.Overlaps) {
			return standsAgainst(on.Kind, on.Name, have.Prefix, "a gateway in "+subnets[0].String())
		}
	}
	return nil
}

// opposed returns the gateway that an address of the bridge stands against: for
// IPv4 any other one, for IPv6 one of an overlapping subnet.
func opposed(have netip.Prefix, gateways []gateway) netip.Prefix {
	for _, gw := range gateways {
		if have == gw.prefix {
			return netip.Prefix{}
		}
	}
	for _, gw := range gateways {
		if have.Addr().Is4() != gw.prefix.Addr().Is4() {
			continue
		}
		if have.Addr().Is4() || (have.Overlaps(gw.prefix) && !have.Addr().IsLinkLocalUnicast()) {
			return gw.prefix
		}
	}
	return netip.Prefix{}
}

// forwarding is what the host needs to be a gateway.
func forwarding(gateways []gateway) []linkspec.Sysctl {
	var out []linkspec.Sysctl
	for _, gw := range gateways {
		on := linkspec.Sysctl{Key: "net.ipv4.ip_forward", Value: "1"}
		if gw.prefix.Addr().Is6() {
			on.Key = "net.ipv6.conf.all.forwarding"
		}
		if !slices.Contains(out, on) {
			out = append(out, on)
		}
	}
	return out
}
