package plan

import (
	"bytes"
	"net"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// guard declares what holds the guest with that NIC and those addresses to itself:
// the rules, and behind them the port's flags, which hold where the rules are gone.
func (p *bridgePlan) guard(port *linkspec.Link, mac net.HardwareAddr, ips []*types100.IPConfig) error {
	if p.conf.Guard.Off {
		return nil
	}
	g, err := p.rules(mac, ips)
	if err != nil {
		return err
	}
	port.Guard = &g
	port.Stations = g.MACs
	port.Learning, port.UnicastFlood, port.Locked = new(false), new(false), new(true)
	port.BPDUGuard, port.RootBlock, port.McastRouter = new(true), new(true), new(false)
	return nil
}

func (p *bridgePlan) rules(mac net.HardwareAddr, ips []*types100.IPConfig) (linkspec.Guard, error) {
	conf := p.conf.Guard
	g := linkspec.Guard{
		MACs:       append([]net.HardwareAddr{mac}, conf.MACs...),
		L2Only:     p.conf.IPAM == nil && len(conf.Addresses) == 0,
		Addresses:  conf.Addresses,
		Isolate:    p.isolated(),
		HostAccess: linkspec.HostAccess(conf.HostAccess),
		Metadata:   !conf.Metadata,
		VRRP:       hasVRRP(conf.MACs),
		StormLimit: conf.StormLimit,
	}
	if g.HostAccess != linkspec.HostAll {
		g.Via = p.conf.Bridge
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

// vrrp is what the MAC addresses of virtual routers begin with (RFC 9568, section 7.3).
var vrrp = []byte{0x00, 0x00, 0x5e, 0x00}

func hasVRRP(macs []net.HardwareAddr) bool {
	for _, mac := range macs {
		if bytes.HasPrefix(mac, vrrp) && (mac[4] == 1 || mac[4] == 2) {
			return true
		}
	}
	return false
}
