package plan

import (
	"net"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

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
	port.Stations = g.MACs
	port.Learning, port.UnicastFlood, port.Locked = new(false), new(false), new(true)
	port.BPDUGuard, port.RootBlock, port.McastRouter = new(true), new(true), new(false)
	return nil
}

func (p *bridgePlan) rules(f Facts, mac net.HardwareAddr, ips []*types100.IPConfig) (linkspec.Guard, error) {
	conf := p.conf.Guard
	g := linkspec.Guard{
		MACs:       append([]net.HardwareAddr{mac}, conf.MACs...),
		L2Only:     p.conf.IPAM == nil && len(conf.Addresses) == 0,
		Addresses:  conf.Addresses,
		Isolate:    p.isolated(),
		HostAccess: linkspec.HostAccess(conf.HostAccess),
		Metadata:   !conf.Metadata,
		VRRP:       len(conf.MACs)+len(conf.Addresses) > 0,
		StormLimit: conf.StormLimit,
		VLANs:      p.conf.Trunk,
	}
	if g.HostAccess != linkspec.HostAll {
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
	g = g.Canonical()
	return g, g.Check()
}

// isolated tells whether the guest is kept from other guests.
func (p *bridgePlan) isolated() bool { return p.conf.PortIsolation || p.conf.Guard.Isolate }
