package plan

import (
	"bytes"
	"net"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// away tells whether the tap is in the VMM's network namespace, where no bridge of
// the host can have it as a port.
func away(tap linkspec.Link) bool { return tap.Netns != "" }

// claimPort refuses what cannot work with a tap in another namespace, and declares
// the port that stands in for it: the host's end of a veth pair, down, with the other
// end beside the tap. As long as it is there, GC knows that addresses may hang on it.
func (p *bridgePlan) claimPort(f Facts, tap linkspec.Link, uplink *linkspec.Link) (linkspec.State, error) {
	if left, there := f[p.att.PortName()]; there {
		if tag, ok := attachment.TagOf(left.Alias); ok && tag.Names(p.att) {
			return linkspec.State{}, alreadyThere(p.att, left)
		}
	}
	if tap.Splice != nil && *tap.Splice != "" {
		return linkspec.State{}, cnierr.New(cnierr.Exists,
			"DEL the attachment that "+*tap.Splice+" belongs to (ip link show in that namespace tells), or make another tap for this one",
			"tap %s is spliced to %s already", tap.Key(), *tap.Splice)
	}
	shortcut, err := p.canShorten(f)
	if err != nil {
		return linkspec.State{}, err
	}
	return linkspec.State{Filters: p.filters(), Links: append(claimed(uplink), linkspec.Link{
		Role: linkspec.Owned, Kind: linkspec.Veth, Name: p.att.PortName(),
		Peer:     &linkspec.Place{Netns: tap.Netns, Name: p.att.InnerName()},
		Alias:    new(attachment.Tag{Attachment: p.att, Shortcut: shortcut}.String()),
		AltNames: []string{p.att.PortHandle()},
	})}, nil
}

// members are the links that join the tap to the bridge, given the tap as its port:
// that alone, or for a tap in another namespace the pair's inner end and the tap,
// spliced, the way past the pair, and the port in the tap's stead.
func (p *bridgePlan) members(f Facts, port linkspec.Link, netns string) []linkspec.Link {
	if netns == "" {
		return []linkspec.Link{port}
	}
	inner := linkspec.Link{
		Role: linkspec.Adopted, Kind: linkspec.Veth, Name: p.att.InnerName(), Netns: netns,
		MTU: port.MTU, Master: new(""), IPv6: new(false), AcceptRA: new(false), Up: new(true),
	}
	tap := inner
	tap.Kind, tap.Name, tap.Splice, tap.Unqueued = linkspec.Tap, port.Name, &inner.Name, new(true)
	port.Kind, port.Name = linkspec.Veth, p.att.PortName()
	shortcut := p.promisedShortcut(f)
	port.Alias = new(attachment.Tag{Attachment: p.att, Shortcut: shortcut}.String())
	links := []linkspec.Link{inner, tap}
	if shortcut {
		upper := p.upper(tap)
		port.Shortcut = &upper.Name
		// It goes before its tap is set down: from a device that is down the kernel
		// does not take back what it did for one above.
		links = append(links, upper)
	}
	return append(links, port)
}

// station gives the port its guest. The bridge keeps frames to a port's own address
// to itself, so the guest must have another one.
func station(port *linkspec.Link, tap linkspec.Link, guest net.HardwareAddr) error {
	port.Guest = guest
	own, device := tap.MAC, "tap "+tap.Name
	if away(tap) {
		port.MAC = attachment.PortMAC(guest)
		own, device = port.MAC, "its port on the bridge"
	}
	if bytes.Equal(guest, own) {
		return cnierr.New(cnierr.Config,
			"give the guest another MAC address than the tap has on the host, or let microvm-tap make the tap",
			"the guest's MAC address %s is that of %s itself: the bridge would keep the guest's frames", guest, device)
	}
	return nil
}

// netns is CNI_NETNS, "" if that is the plugin's own.
func (p *bridgePlan) netns() string {
	if p.ownNetns {
		return ""
	}
	return p.rt.Netns
}

// tapIn returns the tap of that name that a result tells of, on the host or else in
// that namespace, and which of the two. The bridge is another interface of the host.
func tapIn(r *types100.Result, name, bridge, netns string) (tap *types100.Interface, at string) {
	if tap = onHost(r, name); tap != nil && name != bridge {
		return tap, ""
	}
	if i := indexIn(r, name, netns); i >= 0 && netns != "" {
		return r.Interfaces[i], netns
	}
	return nil, ""
}

// indexIn is the index of the interface of that name and sandbox, -1 if there is
// none.
func indexIn(r *types100.Result, name, sandbox string) int {
	if r != nil {
		for i, in := range r.Interfaces {
			if in.Name == name && in.Sandbox == sandbox {
				return i
			}
		}
	}
	return -1
}

// promisedIPs are the guest's addresses in the result of ADD. They are on its NIC,
// and for a tap in another namespace, but for the first, on the tap that has the
// NIC's name.
func (p *bridgePlan) promisedIPs(nic int) []*types100.IPConfig {
	r := p.conf.PrevResult
	tap := -1
	if _, netns := tapIn(r, r.Interfaces[nic].Name, p.conf.Bridge, p.netns()); netns != "" {
		tap = indexIn(r, r.Interfaces[nic].Name, netns)
	}
	var ips []*types100.IPConfig
	for _, ip := range r.IPs {
		// What is on the tap before that is an earlier plugin's.
		if ip.Interface != nil && (*ip.Interface == nic || *ip.Interface == tap && ips != nil) {
			ips = append(ips, ip)
		}
	}
	return ips
}
