package plan

import (
	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// limits are what the configuration and the runtime ask for, as they ask for it.
func limits(b config.Bandwidth) linkspec.Limits {
	return linkspec.Limits{
		ToGuest:       linkspec.Limit{Rate: b.IngressRate, Burst: b.IngressBurst},
		FromGuest:     linkspec.Limit{Rate: b.EgressRate, Burst: b.EgressBurst},
		ShapedSubnets: b.ShapedSubnets, UnshapedSubnets: b.UnshapedSubnets,
	}
}

// shaping declares how a port of that MTU is limited; nil for not at all.
func (p *bridgePlan) shaping(mtu int) *linkspec.Shaping {
	s := &linkspec.Shaping{Limits: limits(p.conf.Bandwidth).Suited(mtu).Canonical()}
	if s.ToGuest.Rate == 0 && s.FromGuest.Rate == 0 {
		return nil
	}
	to, from := s.Devices()
	toName, fromName := p.att.Devices()
	if to {
		s.ToGuestVia = toName
	}
	if from {
		s.FromGuestVia = fromName
	}
	return s
}

// devices are the names of the ifb devices that the limits need.
func (p *bridgePlan) devices() []string {
	var names []string
	if s := p.shaping(defaultMTU); s != nil {
		for _, name := range []string{s.ToGuestVia, s.FromGuestVia} {
			if name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// shapers declares those devices.
func (p *bridgePlan) shapers() []linkspec.Link {
	var links []linkspec.Link
	for _, name := range p.devices() {
		links = append(links, linkspec.Link{
			Role: linkspec.Owned, Kind: linkspec.IFB, Name: name,
			Alias: new(attachment.Tag{Attachment: p.att}.String()),
			IPv6:  new(false), Up: new(true),
		})
	}
	return links
}

// checkLimits refuses limits that make no sense on a port of that MTU, or whose
// devices' names are taken.
func (p *bridgePlan) checkLimits(f Facts, mtu int) error {
	if err := limits(p.conf.Bandwidth).Check(mtu); err != nil {
		return err
	}
	for _, name := range p.devices() {
		l, there := f[name]
		if !there {
			continue
		}
		advice := "find out whose it is, and rename it (ip link set " + name + " name ...) or remove it: the name is derived from this attachment"
		if tag, ok := attachment.TagOf(l.Alias); ok && l.Kind == linkspec.IFB && tag.Names(p.att) {
			advice = "an earlier ADD of this attachment left it: DEL the attachment, then ADD it again"
		}
		return cnierr.New(cnierr.Exists, advice, "device %s, which is to limit the guest's bandwidth, exists already (its kind is %q)", name, l.Kind)
	}
	return nil
}
