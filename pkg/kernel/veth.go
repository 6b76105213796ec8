package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const vethInfoPeer = 1 // VETH_INFO_PEER (include/uapi/linux/veth.h)

// createVeth makes a veth pair whose other end is in its own namespace from the
// first: to move it there would hold up every other change of links on the host.
// The alias comes as that of a bridge does.
func (k *Kernel) createVeth(l linkspec.Link) (linkspec.Draft, error) {
	if l.Peer == nil {
		return nil, fmt.Errorf("create %s: no place for the other end is declared", l.Name)
	}
	if err := checkName(l.Peer.Name); err != nil {
		return nil, err
	}
	peer, err := openNetns(l.Peer.Netns)
	if err != nil {
		return nil, err
	}
	defer peer.Close()
	group := randomGroup()
	d, err := k.createTagged(l, group, newVeth(l, group, int(peer.Fd())))
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = cnierr.New(cnierr.Kernel, "load the module (modprobe veth), or build the kernel with CONFIG_VETH", "the kernel has no veth devices: %w", err)
	}
	return d, err
}

func newVeth(l linkspec.Link, group uint32, netns int) *message {
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).
		text(unix.IFLA_IFNAME, l.Name).
		u32(unix.IFLA_GROUP, group)
	if l.MAC != nil {
		m.attr(unix.IFLA_ADDRESS, l.MAC)
	}
	return m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, string(linkspec.Veth))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(vethInfoPeer, func() {
				m.b = append(m.b, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...)
				m.text(unix.IFLA_IFNAME, l.Peer.Name)
				m.u32(unix.IFLA_NET_NS_FD, uint32(netns))
			})
		})
	})
}
