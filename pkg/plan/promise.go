package plan

import (
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Promise reads what ADD answered out of prevResult and declares it again.
// What later plugins of the chain added to the result, or set on the links, is
// not looked at.
func (p *bridgePlan) Promise(f Facts) (linkspec.State, error) {
	nic, index := guestOf(p.conf.PrevResult, p.att.ContainerID)
	if nic == nil {
		return linkspec.State{}, noGuest(p.att.ContainerID)
	}
	said := onHost(p.conf.PrevResult, p.conf.Bridge)
	if said == nil {
		return linkspec.State{}, cnierr.New(cnierr.Config,
			"CHECK needs the result of ADD as prevResult, and the configuration that ADD had",
			"prevResult names no bridge %s", p.conf.Bridge)
	}
	gateways, err := p.promisedGateways(index)
	if err != nil {
		return linkspec.State{}, err
	}
	links := []linkspec.Link{p.promisedBridge(said, f[p.conf.Bridge])}
	if len(gateways) > 0 && p.hasGatewayDevice() && !p.inVLAN(f[p.conf.Bridge]) {
		device := p.gatewayDevice()
		device.MTU = links[0].MTU
		links = append(links, device)
	}
	p.promiseGateway(&links[len(links)-1], f, gateways)
	port := linkspec.Link{
		Role: linkspec.Adopted, Kind: linkspec.Tap, Name: nic.Name,
		AltNames: []string{p.att.PortHandle()},
		Master:   &p.conf.Bridge, Hairpin: &p.conf.HairpinMode, Isolated: new(p.isolated()),
		Disabled: new(false), IPv6: new(false), AcceptRA: new(false), Up: new(true),
		MTU: p.promisedMTU(f, nic.Name), VLANs: p.vlans(f[p.conf.Bridge]),
	}
	port.Shaping = p.shaping(p.limitedMTU(f, port))
	if err = p.guard(f, &port, parseMAC(nic), p.promisedIPs(index)); err != nil {
		return linkspec.State{}, cnierr.New(cnierr.Config, "CHECK needs the result of ADD as prevResult", "prevResult tells of no guest that could be guarded: %w", err)
	}
	port.GuestAddresses = addressesOf(p.promisedIPs(index))
	_, netns := tapIn(p.conf.PrevResult, nic.Name, p.conf.Bridge, p.netns())
	if netns != "" {
		port.MAC = parseMAC(onHost(p.conf.PrevResult, p.att.PortName()))
	}
	links = slices.Concat(slices.Insert(links, 1, p.promisedUplink(f)...), p.shapers(), p.members(f, port, netns))
	state := linkspec.State{Links: links, Sysctls: forwarding(gateways)}
	if state.Masquerade, err = p.masquerade(p.promisedIPs(index)); err != nil {
		return linkspec.State{}, cnierr.New(cnierr.Config, "CHECK needs the result of ADD as prevResult", "prevResult holds an address that is none: %w", err)
	}
	return state, nil
}

// addressesOf leaves out what is no address.
func addressesOf(ips []*types100.IPConfig) []netip.Addr {
	var all []netip.Addr
	for _, ip := range ips {
		if prefix, err := prefixOf(ip.Address); err == nil {
			all = append(all, prefix.Addr())
		}
	}
	return all
}

// promiseGateway declares the gateways on their device, and that nothing stands
// against them where ADD saw to that.
func (p *bridgePlan) promiseGateway(on *linkspec.Link, f Facts, gateways []gateway) {
	for _, gw := range gateways {
		gw.declare(on, on.Kind == linkspec.VLANDevice || ours(f[on.Name]))
	}
	if !p.conf.ForceAddress {
		return
	}
	for _, have := range f[on.Name].Addresses {
		if opposed(have.Prefix, gateways).IsValid() {
			on.NoAddresses = append(on.NoAddresses, have.Prefix)
		}
	}
}

// promisedBridge declares of the bridge what ADD may have set: more for one
// that this software made than for somebody else's.
func (p *bridgePlan) promisedBridge(said *types100.Interface, found linkspec.Link) linkspec.Link {
	bridge := linkspec.Link{Role: linkspec.Shared, Kind: linkspec.Bridge, Name: p.conf.Bridge, Up: new(true), VLANFiltering: p.filtering()}
	switch {
	case p.conf.Existing:
		bridge.Role = linkspec.Joined
	case ours(found):
		bridge.MAC = parseMAC(said)
		bridge.AcceptRA, bridge.ARPIgnore = new(false), new(true)
		bridge.Promisc = &p.conf.PromiscMode
		if said.Mtu != 0 {
			bridge.MTU = &said.Mtu
		} else if p.conf.MTU != 0 {
			bridge.MTU = &p.conf.MTU
		}
	case p.conf.PromiscMode:
		bridge.Promisc = new(true)
	}
	return bridge
}

// promisedGateways are the addresses that the guest was told to use as its
// gateway, where the bridge is that gateway.
func (p *bridgePlan) promisedGateways(guest int) ([]gateway, error) {
	if !p.conf.IsGateway {
		return nil, nil
	}
	var a addressing
	for _, ip := range p.promisedIPs(guest) {
		if ip.Gateway == nil {
			continue
		}
		addr, err := prefixOf(ip.Address)
		gw, ok := netip.AddrFromSlice(ip.Gateway)
		if err != nil || !ok {
			return nil, cnierr.New(cnierr.Config, "CHECK needs the result of ADD as prevResult",
				"prevResult holds an address or gateway that is none: %s", ip)
		}
		a.addGateway(gw.Unmap(), addr, p.conf.EnableDAD)
	}
	if len(a.gateways) == 0 && p.conf.IPAM != nil {
		return nil, cnierr.New(cnierr.Config, "CHECK needs the result of ADD as prevResult",
			"prevResult names no gateway for the guest")
	}
	return a.gateways, nil
}

// limitedMTU is the MTU that the port's limits were made for.
func (p *bridgePlan) limitedMTU(f Facts, port linkspec.Link) int {
	if port.MTU != nil {
		return *port.MTU
	}
	_, netns := tapIn(p.conf.PrevResult, port.Name, p.conf.Bridge, p.netns())
	if tap := f[linkspec.Key(netns, port.Name)]; tap.MTU != nil {
		return *tap.MTU
	}
	return defaultMTU
}

// promisedMTU is the tap's MTU as ADD answered it; results before version 1.1.0
// hold none, so there it is worked out as ADD did.
func (p *bridgePlan) promisedMTU(f Facts, name string) *int {
	said, netns := tapIn(p.conf.PrevResult, name, p.conf.Bridge, p.netns())
	if said != nil && said.Mtu != 0 {
		return &said.Mtu
	}
	tap, bridge := f[linkspec.Key(netns, name)], f[p.conf.Bridge]
	tag, own := attachment.TagOf(tap.Alias)
	switch {
	case own && tag.MTU != 0:
		return &tag.MTU
	case p.conf.MTU != 0:
		return &p.conf.MTU
	case own:
		return bridge.MTU
	}
	return nil
}
