package plan

import (
	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// canShorten decides, once for the life of the attachment, whether frames to the
// guest take a shortcut. They would pass by a limit of what the guest receives,
// which is at the port; and not every kernel has the device.
func (p *bridgePlan) canShorten(f Facts) (bool, error) {
	if limits(p.conf.Bandwidth).ToGuest.Rate != 0 {
		return false, nil
	}
	if can, err := p.host.CanShorten(); err != nil || !can {
		return false, err
	}
	l, there := f[p.att.UpperName()]
	if !there {
		return true, nil
	}
	if tag, ok := attachment.TagOf(l.Alias); ok && tag.Names(p.att) {
		return false, alreadyThere(p.att, l)
	}
	return false, cnierr.New(cnierr.Exists,
		"find out whose it is, and rename it (ip link set "+l.Name+" name ...) or remove it: the name is derived from this attachment",
		"device %s, by which the guest is to be sent to, exists already (its kind is %q)", l.Name, l.Kind)
}

// promisedShortcut is what canShorten decided: it stands in the port's tag, because
// a kernel may learn, or forget, about the device.
func (p *bridgePlan) promisedShortcut(f Facts) bool {
	tag, ok := attachment.TagOf(f[p.att.PortName()].Alias)
	return ok && tag.Names(p.att) && tag.Shortcut
}

// upper declares the device over the tap by which the host sends to it.
func (p *bridgePlan) upper(tap linkspec.Link) linkspec.Link {
	return linkspec.Link{
		Role: linkspec.Owned, Kind: linkspec.Upper, Name: p.att.UpperName(),
		Lower: &linkspec.Place{Netns: tap.Netns, Name: tap.Name},
		Alias: new(attachment.Tag{Attachment: p.att}.String()),
		Deaf:  new(true), Master: new(""), IPv6: new(false), Up: new(true),
	}
}
