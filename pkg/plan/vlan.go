package plan

import (
	"slices"
	"strconv"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// defaultVLAN is the one of a new bridge, and the native one of a trunk that
// names none, as in the upstream bridge plugin.
const defaultVLAN = 1

// tagged tells whether the configuration is about VLANs at all. Where it is not,
// nothing about them is declared.
func (p *bridgePlan) tagged() bool { return p.conf.VLAN != 0 || p.conf.Trunk != nil }

func (p *bridgePlan) filtering() *bool {
	if !p.tagged() {
		return nil
	}
	return new(true)
}

func (p *bridgePlan) filters() string {
	if !p.tagged() {
		return ""
	}
	return p.conf.Bridge
}

// checkFiltering refuses to switch on what may cut off ports of somebody else's
// bridge. Where the kernel has no VLANs the bridge says nothing of them, and that
// is for the engine to find out.
func (p *bridgePlan) checkFiltering(found linkspec.Link) error {
	mayChange := ours(found) && !p.conf.Existing
	if !p.tagged() || found.VLANFiltering == nil || *found.VLANFiltering || mayChange {
		return nil
	}
	return cnierr.New(cnierr.Config,
		"have whoever makes the bridge switch it on, after a look at the VLANs of its ports (bridge vlan show), for it may cut some off: ip link set "+
			p.conf.Bridge+" type bridge vlan_filtering 1; or let the plugin make another bridge",
		"bridge %s does not tell VLANs apart, and that is not switched on for a bridge of somebody else", p.conf.Bridge)
}

// vlans declares those of the port: the guest's own without a tag, the trunk's
// with one. The native VLAN of a trunk may be among the trunk's.
func (p *bridgePlan) vlans(bridge linkspec.Link) []linkspec.VLAN {
	if !p.tagged() {
		return nil
	}
	native := p.conf.VLAN
	if native == 0 {
		native = defaultVLAN
	}
	vlans := []linkspec.VLAN{{ID: native, PVID: true, Untagged: true}}
	kept := defaultVLAN
	if bridge.VLANFiltering != nil {
		kept = bridge.DefaultPVID
	}
	if p.conf.PreserveDefaultVLAN && kept != 0 && kept != native {
		vlans = append(vlans, linkspec.VLAN{ID: kept, Untagged: true})
	}
	for _, id := range p.conf.Trunk {
		if _, in := linkspec.FindVLAN(vlans, id); !in {
			vlans = append(vlans, linkspec.VLAN{ID: id})
		}
	}
	slices.SortFunc(vlans, func(a, b linkspec.VLAN) int { return a.ID - b.ID })
	return vlans
}

// hasGatewayDevice tells whether the gateway may be a device of its own. It is
// not where the bridge itself is in the VLAN.
func (p *bridgePlan) hasGatewayDevice() bool { return p.conf.VLAN != 0 && p.conf.IsGateway }

func (p *bridgePlan) gatewayName() string { return attachment.GatewayName(p.conf.Bridge, p.conf.VLAN) }

// inVLAN tells whether the bridge itself is, or will be, in the guest's VLAN.
func (p *bridgePlan) inVLAN(bridge linkspec.Link) bool {
	if bridge.VLANFiltering == nil || !*bridge.VLANFiltering {
		return p.conf.VLAN == defaultVLAN
	}
	v, in := linkspec.FindVLAN(bridge.VLANs, p.conf.VLAN)
	return in && v.Native()
}

// gatewayDevice declares a VLAN device on the bridge.
func (p *bridgePlan) gatewayDevice() linkspec.Link {
	return linkspec.Link{
		Role: linkspec.Shared, Kind: linkspec.VLANDevice, Name: p.gatewayName(), Alias: new(attachment.GatewayTag),
		Parent: &p.conf.Bridge, VLANID: &p.conf.VLAN, Carried: new(true), AcceptRA: new(false), ARPIgnore: new(true), Up: new(true),
	}
}

// gatewayLinks returns the bridge and what else there is of the host in the
// guest's VLAN, with the gateway's addresses.
func (p *bridgePlan) gatewayLinks(f Facts, bridge linkspec.Link, gateways []gateway) ([]linkspec.Link, error) {
	found := f[p.conf.Bridge]
	if !p.hasGatewayDevice() || p.inVLAN(found) {
		err := p.gatewayAddresses(&bridge, found, gateways)
		return []linkspec.Link{bridge}, err
	}
	if v, in := linkspec.FindVLAN(found.VLANs, p.conf.VLAN); in && v.Untagged {
		return nil, cnierr.New(cnierr.Config,
			"take it out of the VLAN (bridge vlan del vid "+strconv.Itoa(v.ID)+" dev "+p.conf.Bridge+" self), make it the bridge's own (pvid untagged), or leave isGateway out",
			"bridge %s itself is in VLAN %d without tags, but not with its own frames: there is no place for a gateway", p.conf.Bridge, v.ID)
	}
	device := p.gatewayDevice()
	foundDevice, there := f[device.Name]
	if there && !p.isGateway(foundDevice) {
		return nil, cnierr.New(cnierr.Exists,
			"remove it (ip link del "+device.Name+"), choose another VLAN or bridge, or leave isGateway out and use it as the gateway yourself",
			"%s, where the gateway of VLAN %d of bridge %s would be, is somebody else's %s device", device.Name, p.conf.VLAN, p.conf.Bridge, foundDevice.Kind)
	}
	device.MTU = bridge.MTU
	if err := p.gatewayAddresses(&device, foundDevice, gateways); err != nil {
		return nil, err
	}
	if gateways == nil { // not known yet
		return []linkspec.Link{bridge}, nil
	}
	return []linkspec.Link{bridge, device}, nil
}

// isGateway tells whether a device is the one that an earlier ADD made.
func (p *bridgePlan) isGateway(l linkspec.Link) bool {
	return l.Kind == linkspec.VLANDevice && l.Alias != nil && *l.Alias == attachment.GatewayTag &&
		l.Parent != nil && *l.Parent == p.conf.Bridge && l.VLANID != nil && *l.VLANID == p.conf.VLAN
}
