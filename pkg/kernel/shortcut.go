package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Numbers of include/uapi/linux that x/sys does not have.
const (
	macvlanMode     = 1  // IFLA_MACVLAN_MODE (if_link.h)
	macvlanSources  = 6  // IFLA_MACVLAN_MACADDR_COUNT
	macvlanModeDeaf = 16 // MACVLAN_MODE_SOURCE

	netnsID = 1 // NETNSA_NSID (net_namespace.h)
	netnsFD = 3 // NETNSA_FD
)

// CanShorten tells whether the kernel has upper devices. It asks for one over no
// device, which a kernel that has them refuses in other words than one that has not.
// The kernel loads the module, as it would for a real one.
func (k *Kernel) CanShorten() (bool, error) {
	if k.splicer == nil {
		return false, nil
	}
	err := k.conn.do(newUpper(newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...)))
	switch {
	case errors.Is(err, unix.EINVAL):
		return true, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	}
	return false, fmt.Errorf("ask the kernel for macvlan devices: %w", err)
}

// createUpper makes an upper device over a tap in another namespace. In its mode it
// receives from the senders that are listed, and none is. Any other would let the
// guest past the bridge, should it get rid of the program at the tap.
func (k *Kernel) createUpper(l linkspec.Link) (linkspec.Draft, error) {
	if l.Lower == nil {
		return nil, fmt.Errorf("create %s: no device below is declared", l.Name)
	}
	there, err := k.in(l.Lower.Netns)
	if err != nil {
		return nil, err
	}
	lower, err := there.indexOf(l.Lower.Name)
	if err != nil {
		return nil, wrap("look up device below", err)
	}
	group := randomGroup()
	m := newTagged(l.Name, group).u32(unix.IFLA_LINK, uint32(lower))
	if there != k {
		id, err := k.idOf(there)
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", l.Name, err)
		}
		m.u32(unix.IFLA_LINK_NETNSID, id)
	}
	return k.createTagged(l, group, newUpper(m))
}

func newUpper(m *message) *message {
	return m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, string(linkspec.Upper))
		m.nest(unix.IFLA_INFO_DATA, func() { m.u32(macvlanMode, macvlanModeDeaf) })
	})
}

func isDeaf(data []byte) bool {
	mode, sources := lookup(data, macvlanMode), lookup(data, macvlanSources)
	return len(mode) == 4 && u32Of(mode) == macvlanModeDeaf && (len(sources) < 4 || u32Of(sources) == 0)
}

// idOf is the number by which this namespace knows the other one. A namespace
// that links of this one lead to has one; else it gets one.
func (k *Kernel) idOf(other *Kernel) (uint32, error) {
	var f *os.File
	// Its path may lead elsewhere by now.
	if err := other.run(func() (err error) { f, err = os.Open("/proc/thread-self/ns/net"); return err }); err != nil {
		return 0, err
	}
	defer f.Close()
	ask := func() (uint32, error) {
		reply, err := k.conn.get(newMessage(unix.RTM_GETNSID, 0, unix.AF_UNSPEC, 0, 0, 0).u32(netnsFD, uint32(f.Fd())))
		if err != nil || len(reply) < 4 {
			return 0, wrap("ask for the network namespace's number", err)
		}
		return u32Of(lookup(reply[4:], netnsID)), nil
	}
	const none = ^uint32(0) // NETNSA_NSID_NOT_ASSIGNED
	if id, err := ask(); err != nil || id != none {
		return id, err
	}
	m := newMessage(unix.RTM_NEWNSID, 0, unix.AF_UNSPEC, 0, 0, 0).u32(netnsFD, uint32(f.Fd())).u32(netnsID, none)
	if err := k.conn.do(m); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, wrap("number the network namespace", err)
	}
	return ask()
}

// shortcutOf returns the name of the upper device that frames to the guest take;
// nil for what is no port of ours, and where this program cannot tell.
func (k *Kernel) shortcutOf(port linkspec.Link) (*string, error) {
	name, ok := attachment.UpperOf(port.Name)
	if !ok || port.Kind != linkspec.Veth || k.splicer == nil || k.thread != nil {
		return nil, nil
	}
	upper, err := k.indexOf(name)
	if errors.Is(err, fs.ErrNotExist) {
		return new(""), nil
	}
	if err != nil {
		return nil, wrap("look up upper device", err)
	}
	there, err := k.splicer.ObserveShortcut(port.Index, upper)
	if err != nil {
		return nil, known("look at shortcut", err)
	}
	if !there {
		name = ""
	}
	return &name, nil
}

func (k *Kernel) setShortcut(l, change linkspec.Link) error {
	switch {
	case change.Shortcut == nil:
		return nil
	case k.splicer == nil || k.thread != nil:
		return wrap("shortcut", errors.ErrUnsupported)
	case *change.Shortcut == "":
		return known("remove shortcut", k.splicer.RemoveShortcut(l.Index))
	}
	upper, err := k.indexOf(*change.Shortcut)
	if err != nil {
		return wrap("shortcut", err)
	}
	return known("shortcut by "+*change.Shortcut, k.splicer.InstallShortcut(l.Index, upper))
}

// unqueued tells whether a tap of this namespace is without a queue; nil where
// this program cannot tell.
func (k *Kernel) unqueued(tap linkspec.Link) (*bool, error) {
	if k.splicer == nil {
		return nil, nil
	}
	var off bool
	err := k.run(func() (err error) { off, err = k.splicer.Unqueued(tap.Index); return err })
	if err != nil {
		return nil, known("look at queue of "+tap.Name, err)
	}
	return &off, nil
}

func (k *Kernel) setUnqueued(l, change linkspec.Link) error {
	switch {
	case change.Unqueued == nil:
		return nil
	case k.splicer == nil || k.thread == nil:
		return wrap("take off queue", errors.ErrUnsupported)
	case *change.Unqueued:
		return known("take off queue", k.run(func() error { return k.splicer.Unqueue(l.Index) }))
	}
	return known("give back queue", k.run(func() error { return k.splicer.Requeue(l.Index) }))
}

// known makes the error of a device that is gone one that the engine knows.
func known(doing string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		err = &refusal{errno: unix.ENODEV, reason: err.Error()}
	}
	return wrap(doing, err)
}
