package kernel

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const tunPath = "/dev/net/tun"

// Create makes a tap, a bridge, an ifb, VLAN or upper device or a veth pair, down. All but
// a tap have the alias that they declare from the moment that they exist.
func (k *Kernel) Create(l linkspec.Link) (linkspec.Draft, error) {
	if err := checkName(l.Name); err != nil {
		return nil, err
	}
	at, err := k.in(l.Netns)
	if err != nil {
		return nil, err
	}
	switch l.Kind {
	case linkspec.Tap:
		return at.createTap(l)
	case linkspec.Bridge:
		return at.createBridge(l)
	case linkspec.IFB:
		return at.createIFB(l)
	case linkspec.Veth:
		return at.createVeth(l)
	case linkspec.VLANDevice:
		return at.createVLANDevice(l)
	case linkspec.Upper:
		return at.createUpper(l)
	}
	return nil, fmt.Errorf("create %s: links of kind %q are not made here", l.Name, l.Kind)
}

// checkName refuses what the kernel would take for something else than the
// name of one device, or refuse without a reason: it fills "%d" in, and "all"
// and "default" stand for all devices in net.ipv4.conf.
func checkName(name string) error {
	reserved := slices.Contains([]string{"", ".", "..", "all", "default"}, name)
	if reserved || len(name) > attachment.MaxName || strings.ContainsAny(name, "%/: \t\n\v\f\r") {
		return cnierr.New(cnierr.Config, "use a name of 1 to 15 bytes without %, /, : and white space, other than . .. all default",
			"%q cannot be the name of a device", name)
	}
	return nil
}

// tapDraft is a tap that goes when its file is closed, unless it was kept.
type tapDraft struct {
	name string
	fd   int // -1 when closed
}

func (k *Kernel) createTap(l linkspec.Link) (linkspec.Draft, error) {
	var fd int
	// A tap is made in the namespace in which its file was opened.
	if err := k.run(func() (err error) { fd, err = openTun(); return err }); err != nil {
		return nil, err
	}
	d := &tapDraft{name: l.Name, fd: fd}
	if err := k.configureTap(d, l); err != nil {
		return nil, errors.Join(fmt.Errorf("make tap %s: %w", l.Name, err), d.Discard())
	}
	return d, nil
}

func (k *Kernel) configureTap(d *tapDraft, l linkspec.Link) error {
	multiQueue := l.MultiQueue != nil && *l.MultiQueue
	if err := attachAs(l.Context, d.fd, l.Name, multiQueue); err != nil {
		return err
	}
	if l.Owner != nil && *l.Owner != linkspec.NoID {
		if err := unix.IoctlSetInt(d.fd, unix.TUNSETOWNER, int(*l.Owner)); err != nil {
			return fmt.Errorf("set owner %d: %w", *l.Owner, err)
		}
	}
	if l.Group != nil && *l.Group != linkspec.NoID {
		if err := unix.IoctlSetInt(d.fd, unix.TUNSETGROUP, int(*l.Group)); err != nil {
			return fmt.Errorf("set group %d: %w", *l.Group, err)
		}
	}
	if multiQueue {
		return k.checkQueues(l.Name)
	}
	return nil
}

// attachAs attaches in that SELinux context, "" for the process's own.
func attachAs(context string, fd int, name string, multiQueue bool) error {
	if context != "" {
		return attachIn(context, fd, name, multiQueue)
	}
	return attach(fd, name, multiQueue)
}

// attach makes a tap of that name and attaches the file to it. It never
// attaches to one that is there (IFF_TUN_EXCL).
func attach(fd int, name string, multiQueue bool) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if multiQueue {
		flags |= unix.IFF_MULTI_QUEUE
	}
	request.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return attachError(err)
	}
	if request.Name() != name {
		return fmt.Errorf("the kernel named it %s", request.Name())
	}
	return nil
}

// attachError is what an error of TUNSETIFF means.
func attachError(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	case errors.Is(err, unix.EPERM):
		return cnierr.New(cnierr.Kernel, asRoot, "the kernel lets this process make no tap: %w", err)
	}
	return err
}

// checkQueues makes sure that nobody attached to a multi-queue tap before it
// had its owner. After that only the owner can.
func (k *Kernel) checkQueues(name string) error {
	reply, err := k.conn.get(getLink(name))
	if err != nil {
		return err
	}
	if n := decodeLink(reply).queues; n != 1 {
		return cnierr.New(cnierr.TryAgain,
			"a process that may open "+tunPath+" attaches to taps of others while they are made: find it, or close "+tunPath+" to it",
			"another process attached to the new tap: it has %d queues, not 1", n)
	}
	return nil
}

// Keep makes the tap persistent, then closes its file.
func (d *tapDraft) Keep() error {
	if err := unix.IoctlSetInt(d.fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("make tap %s persistent: %w", d.name, err)
	}
	return d.Discard()
}

// Discard closes the tap's file, with which goes the tap if it was not kept.
func (d *tapDraft) Discard() error {
	if d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	// Linux closes the file even when it returns EINTR.
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return fmt.Errorf("close tap %s: %w", d.name, err)
	}
	return nil
}

// tagged is a link other than a tap that stays, unless it is discarded.
type tagged struct {
	k     *Kernel
	name  string
	index int
	kept  bool
}

func (d *tagged) Keep() error {
	d.kept = true
	return nil
}

func (d *tagged) Discard() error {
	if d.kept {
		return nil
	}
	d.kept = true
	return d.k.deleteOne(linkspec.Link{Name: d.name, Index: d.index})
}

// createBridge makes a bridge whose MAC address counts as set by the user, so
// that it never follows that of a port.
func (k *Kernel) createBridge(l linkspec.Link) (linkspec.Draft, error) {
	group := randomGroup()
	m := newTagged(l.Name, group).attr(unix.IFLA_ADDRESS, stableMAC(l.Name))
	bridgeInfo(m, l.VLANFiltering)
	d, err := k.createTagged(l, group, m)
	if errors.Is(err, unix.EOPNOTSUPP) && l.VLANFiltering != nil {
		if cannot := k.CanFilter(); cannot != nil {
			return nil, fmt.Errorf("make bridge %s: %w", l.Name, cannot)
		}
	}
	return d, err
}

func (k *Kernel) createIFB(l linkspec.Link) (linkspec.Draft, error) {
	group := randomGroup()
	m := newTagged(l.Name, group).attr(unix.IFLA_ADDRESS, randomMAC())
	m.nest(unix.IFLA_LINKINFO, func() { m.text(unix.IFLA_INFO_KIND, string(linkspec.IFB)) })
	return k.createTagged(l, group, m)
}

// newTagged begins a request for a link in that device group.
func newTagged(name string, group uint32) *message {
	return newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).
		text(unix.IFLA_IFNAME, name).
		u32(unix.IFLA_GROUP, group)
}

// createTagged sends a request for a link in that device group, with its alias.
//
// The kernel takes no alias for a new link. The alias comes in a second request,
// sent in the same system call, so that there is never a link of ours without
// it for a killed process to leave behind. The second request finds the link
// by a device group that is nobody else's: by name it could meet, should the
// first one fail, a link that somebody else made.
func (k *Kernel) createTagged(l linkspec.Link, group uint32, create *message) (linkspec.Draft, error) {
	requests := []*message{create}
	if l.Alias != nil {
		requests = append(requests, newMessage(unix.RTM_NEWLINK, 0, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).
			u32(unix.IFLA_GROUP, group).
			attr(unix.IFLA_IFALIAS, aliasOf(*l.Alias)))
	}
	errs := k.conn.doAll(requests...)
	if err := errs[0]; err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = cnierr.New(cnierr.Kernel, "load the module (modprobe "+string(l.Kind)+"), or build the kernel with CONFIG_"+strings.ToUpper(string(l.Kind)), "the kernel has no devices of kind %s: %w", l.Kind, err)
		}
		return nil, fmt.Errorf("make %s %s: %w", l.Kind, l.Name, err)
	}
	index, err := k.indexOf(l.Name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find new %s: %w", l.Kind, err), k.deleteGroup(group))
	}
	d := &tagged{k: k, name: l.Name, index: index}
	// The group has served its purpose.
	reset := k.conn.do(setLink(index, 0, 0).u32(unix.IFLA_GROUP, 0))
	if err := errors.Join(append(errs, reset)...); err != nil {
		return nil, errors.Join(fmt.Errorf("tag %s %s: %w", l.Kind, l.Name, err), d.Discard())
	}
	return d, nil
}

// stableMAC is an address that a device of that name gets each time that it is made in
// this network namespace until the machine boots again, and on no other machine: what guests
// and their guards know of a bridge holds if somebody deletes it and it is made anew.
func stableMAC(name string) net.HardwareAddr {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var netns unix.Stat_t
	if err != nil || unix.Stat("/proc/thread-self/ns/net", &netns) != nil {
		return randomMAC()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "bridge\x00%s\x00%d\x00%s", boot, netns.Ino, name))
	return local(sum[:6])
}

// randomMAC is a locally administered unicast address.
func randomMAC() []byte {
	mac := make([]byte, 6)
	rand.Read(mac) // never fails
	return local(mac)
}

// local makes a MAC address a unicast one that is locally administered.
func local(mac []byte) []byte {
	mac[0] = mac[0]&^1 | 2
	return mac
}

// randomGroup is a device group that no link is in: administrators count theirs
// from 0, and the kernel knows 2^32.
func randomGroup() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return native.Uint32(b[:])&0x3fffffff | 0x40000000
}
