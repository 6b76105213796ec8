//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/bench/netns"
)

const (
	portName  = "port0" // the guest's tap, in the host's namespace
	ifbName   = "ifb0"
	guestIP   = "10.77.0.2"
	peerIP    = "10.77.0.3"
	guestIPv6 = "fd77::2"
	peerIPv6  = "fd77::3"
	frameSize = 1<<16 + 256 // the longest GSO frame with its virtio header
)

// rig is a host with a bridge, a guest behind a tap and a peer behind a veth
// pair. The guest is a namespace whose network card is a second tap; a wire in
// this process moves frames between the two taps as a VMM does, with virtio
// headers and unsegmented GSO frames of up to 64 KiB.
type rig struct {
	host, guest, peer netns.Namespace
	port              int    // index of the tap in the host
	taps              [2]int // in the host, and in the guest
}

// newRig makes a rig whose wire delays each frame, in both directions.
func newRig(delay time.Duration) (*rig, error) {
	r := &rig{}
	for _, n := range []*netns.Namespace{&r.host, &r.guest, &r.peer} {
		var err error
		if *n, err = netns.New(); err != nil {
			return nil, err
		}
	}
	if err := r.host.Do(r.makeHost); err != nil {
		return nil, fmt.Errorf("make host: %w", err)
	}
	if err := r.guest.Do(r.makeGuest); err != nil {
		return nil, fmt.Errorf("make guest: %w", err)
	}
	if err := r.peer.Do(func() error { return setUp("eth0", peerIP+"/24", peerIPv6+"/64") }); err != nil {
		return nil, fmt.Errorf("make peer: %w", err)
	}
	go wire(r.taps[0], r.taps[1], delay)
	go wire(r.taps[1], r.taps[0], delay)
	return r, nil
}

func (r *rig) makeHost() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	var err error
	if r.taps[0], err = openTap(portName); err != nil {
		return err
	}
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "peer0"}, PeerName: "eth0",
		PeerNamespace: netlink.NsFd(r.peer.File.Fd()),
	})
	if err != nil {
		return err
	}
	for _, name := range []string{portName, "peer0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if name == portName {
			r.port = link.Attrs().Index
		}
		if err := errors.Join(netlink.LinkSetMaster(link, bridge), netlink.LinkSetUp(link)); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(bridge)
}

func (r *rig) makeGuest() error {
	var err error
	if r.taps[1], err = openTap("eth0"); err != nil {
		return err
	}
	return setUp("eth0", guestIP+"/24", guestIPv6+"/64")
}

func setUp(name string, prefixes ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		a, err := netlink.ParseAddr(p)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// openTap makes a tap that lives as long as the process, with the offloads
// that a guest's virtio driver negotiates.
func openTap(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return -1, fmt.Errorf("make tap %s: %w", name, err)
	}
	offloads := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads); err != nil {
		return -1, fmt.Errorf("set offloads of tap %s: %w", name, err)
	}
	return fd, nil
}

// wire moves frames from one tap to the other.
func wire(from, to int, delay time.Duration) {
	// A frame that the other side does not take is lost, as on any wire.
	deliver := func(frame []byte) { _, _ = unix.Write(to, frame) }
	if delay > 0 {
		deliver = deliverLater(deliver, delay)
	}
	frame := make([]byte, frameSize)
	for {
		n, err := unix.Read(from, frame)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		deliver(frame[:n])
	}
}

// deliverLater returns a function that hands copies of its frames on in order,
// each after the delay.
func deliverLater(deliver func([]byte), delay time.Duration) func([]byte) {
	type flying struct {
		frame []byte
		due   time.Time
	}
	sky := make(chan flying, 1<<16)
	go func() {
		for f := range sky {
			<-time.After(time.Until(f.due))
			deliver(f.frame)
		}
	}()
	return func(frame []byte) { sky <- flying{slices.Clone(frame), time.Now().Add(delay)} }
}
