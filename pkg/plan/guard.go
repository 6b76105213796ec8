package plan

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// guard declares what holds the guest with that NIC and those addresses to itself:
// the rules, and behind them the port's flags, which hold where the rules are gone.
func (p *bridgePlan) guard(f Facts, port *linkspec.Link, mac net.HardwareAddr, ips []*types100.IPConfig) error {
	if p.conf.Guard.Off {
		port.Guard = &linkspec.Guard{} // the flags are nobody's business then
		return nil
	}
	g, err := p.rules(f, mac, ips)
	if err != nil {
		return err
	}
	port.Guard = &g
	port.Stations = g.MACs[:1]
	// All guests of the network may have the others, and more than one of them does
	// where they stand for a virtual router: the bridge has to learn where they are,
	// and until it has, to ask at each of these ports.
	wander := len(g.MACs) > 1
	port.Learning, port.UnicastFlood, port.Locked = &wander, &wander, new(!wander)
	port.BroadFlood, port.McastFlood, port.ProxyARP = new(true), new(true), new(false) // as they are: else the guest is cut off
	port.BPDUGuard, port.RootBlock, port.McastRouter = new(true), new(true), new(false)
	return nil
}

// likely are addresses as most guests get them, one of each family at most.
var likely = []*types100.IPConfig{
	{Address: net.IPNet{IP: net.IPv4(192, 0, 2, 1).To4(), Mask: net.CIDRMask(24, 32)}},
	{Address: net.IPNet{IP: net.ParseIP("2001:db8::1"), Mask: net.CIDRMask(64, 128)}},
}

// Guard is the guard of a guest with such addresses, as far as the configuration
// alone decides it.
func (p *bridgePlan) Guard() linkspec.Guard {
	if p.conf.Guard.Off {
		return linkspec.Guard{}
	}
	g, err := p.rules(Facts{}, p.guestMAC(), p.likely())
	if err != nil { // more addresses than there is room for, perhaps: Settle will say
		return linkspec.Guard{}
	}
	return g
}

// likely are addresses of the families that the configuration asks for, and of both
// where it does not say.
func (p *bridgePlan) likely() []*types100.IPConfig {
	if p.conf.IPAM == nil {
		return nil
	}
	var ips []*types100.IPConfig
	for _, ip := range likely {
		if addr, _ := netip.AddrFromSlice(ip.Address.IP); p.conf.IPAM.Families.Accept(addr) {
			ips = append(ips, ip)
		}
	}
	return ips
}

// checkGuard tells whether there is room for what the configuration allows beside the
// address of each family that it asks for.
func (p *bridgePlan) checkGuard() error {
	if p.conf.Guard.Off {
		return nil
	}
	var ips []*types100.IPConfig
	if p.conf.IPAM != nil && p.conf.IPAM.Families != (config.Families{}) {
		ips = p.likely()
	}
	_, err := p.rules(Facts{}, net.HardwareAddr{2, 0, 0, 0, 0, 1}, ips)
	return err
}

func (p *bridgePlan) rules(f Facts, mac net.HardwareAddr, ips []*types100.IPConfig) (linkspec.Guard, error) {
	conf := p.conf.Guard
	g := linkspec.Guard{
		MACs:          append([]net.HardwareAddr{mac}, conf.MACs...),
		L2Only:        p.conf.IPAM == nil && len(conf.Addresses) == 0,
		Addresses:     conf.Addresses,
		Isolate:       p.isolated(),
		HostAccess:    linkspec.HostAccess(conf.HostAccess),
		ReachMetadata: !conf.Metadata,
		VRRP:          speaksVRRP(conf),
		StormLimit:    conf.StormLimit, GroupLimit: conf.GroupLimit,
		VLANs: p.conf.Trunk,
	}
	if g.NeedsRouter() {
		g.Via = p.conf.Bridge
		if p.hasGatewayDevice() && !p.inVLAN(f[p.conf.Bridge]) {
			g.Via = p.gatewayName()
		}
	}
	for _, ip := range ips {
		prefix, err := prefixOf(ip.Address)
		if err != nil {
			return g, err
		}
		addr := prefix.Addr()
		g.Addresses = append(g.Addresses[:len(g.Addresses):len(g.Addresses)], netip.PrefixFrom(addr, addr.BitLen()))
		g.Subnets = append(g.Subnets, prefix.Masked())
		if gateway, ok := netip.AddrFromSlice(ip.Gateway); ok {
			g.Gateways = append(g.Gateways, gateway.Unmap())
		}
	}
	if g.Isolate && p.conf.IPAM != nil { // neighbours may be in other ranges
		g.Subnets = append(g.Subnets, p.conf.IPAM.Subnets...)
	}
	g = g.Canonical()
	return g, g.Check()
}

// speaksVRRP tells whether the guest may be a virtual router: whether it has one's
// MAC address, or an address to take over.
func speaksVRRP(conf config.Guard) bool {
	return slices.ContainsFunc(conf.MACs, func(m net.HardwareAddr) bool {
		return bytes.HasPrefix(m, []byte{0, 0, 0x5e, 0, 1}) || bytes.HasPrefix(m, []byte{0, 0, 0x5e, 0, 2})
	}) ||
		slices.ContainsFunc(conf.Addresses, netip.Prefix.IsSingleIP)
}

// isolated tells whether the guest is kept from other guests.
func (p *bridgePlan) isolated() bool { return p.conf.PortIsolation || p.conf.Guard.Isolate }
