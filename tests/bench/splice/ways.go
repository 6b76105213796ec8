//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/splice"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/bench/netns"
)

// connect makes a tap for a VMM and connects it to the bridge.
type connect func(r *rig, vmm netns.Namespace, bridge netlink.Link) (int, error)

// way is a row of the table.
type way struct {
	name     string
	from, to connect
	wide     bool // measured only when asked for
}

// ways begins with the baseline.
var ways = []way{
	{"both taps on the bridge", direct, direct, false},
	{"tc mirred at the sender", mirred, direct, false},
	{"tc mirred at the receiver", direct, mirred, false},
	{"tc mirred at both", mirred, mirred, false},
	{"splice at the sender", spliced(), direct, false},
	{"splice at the receiver", direct, spliced(), false},
	{"splice at both", spliced(), spliced(), false},
	{"shortcut at the receiver", direct, spliced(shortcut), false},
	{"shortcut at both", spliced(shortcut), spliced(shortcut), false},
	{"shortcut, no queue at the receiver", direct, spliced(shortcut, noQueue), false},
	{"shortcut, no queue at both", spliced(shortcut, noQueue), spliced(shortcut, noQueue), false},

	{"sender: filter", veth(filters), direct, true},
	{"receiver: filter", direct, veth(filters), true},
	{"receiver: shortcut, filter, no queue", direct, veth(filters, filteredShortcut, noQueue), true},
	{"both: shortcut, filter, no queue", veth(filters, filteredShortcut, noQueue), veth(filters, filteredShortcut, noQueue), true},
	{"receiver: no queue", direct, spliced(noQueue), true},
	{"receiver: GRO", direct, spliced(gro), true},
	{"receiver: GRO, threaded", direct, spliced(gro, threaded), true},
	{"receiver: XDP", direct, spliced(xdp), true},
	{"receiver: RPS", direct, spliced(rps), true},
	{"receiver: netkit", direct, netkit(), true},
	{"receiver: netkit, no queue", direct, netkit(noQueue), true},
	{"both: no queue", spliced(noQueue), spliced(noQueue), true},
	{"both: netkit", netkit(), netkit(), true},
	{"both: netkit, no queue", netkit(noQueue), netkit(noQueue), true},
}

func direct(r *rig, _ netns.Namespace, bridge netlink.Link) (fd int, err error) {
	err = r.host.Do(func() error {
		var tap netlink.Link
		if fd, tap, err = newTap(r.name("tap")); err != nil {
			return err
		}
		return netlink.LinkSetMaster(tap, bridge)
	})
	return fd, err
}

// pair is a tap and the inner end of a veth pair in the namespace of a VMM, and
// the port in that of the host.
type pair struct {
	vmm              netns.Namespace
	tap, inner, port netlink.Link
}

// change does something to a pair.
type change func(*rig, pair) error

// veth joins tap and bridge through a veth pair and the changes.
func veth(changes ...change) connect {
	return func(r *rig, vmm netns.Namespace, bridge netlink.Link) (fd int, err error) {
		p := pair{vmm: vmm}
		device := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: r.name("in")}, PeerName: r.name("port"), PeerNamespace: netlink.NsFd(r.host.File.Fd())}
		if fd, err = r.connectPair(&p, device, device.PeerName, bridge); err != nil {
			return fd, err
		}
		for _, c := range changes {
			if err := c(r, p); err != nil {
				return fd, err
			}
		}
		return fd, nil
	}
}

// connectPair makes the tap, and the device, whose other end is to be the port.
func (r *rig) connectPair(p *pair, device netlink.Link, port string, bridge netlink.Link) (fd int, err error) {
	err = p.vmm.Do(func() error {
		if fd, p.tap, err = newTap(r.name("tap")); err != nil {
			return err
		}
		if err = netlink.LinkAdd(device); err != nil {
			return fmt.Errorf("make %s: %w", device.Type(), err)
		}
		if p.inner, err = netlink.LinkByName(device.Attrs().Name); err != nil {
			return err
		}
		return netlink.LinkSetUp(p.inner)
	})
	if err != nil {
		return fd, err
	}
	return fd, r.host.Do(func() error {
		if p.port, err = netlink.LinkByName(port); err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(p.port, bridge), netlink.LinkSetUp(p.port))
	})
}

// spliced is what pkg/datapath/splice does, and the changes.
func spliced(changes ...change) connect {
	return veth(append([]change{install}, changes...)...)
}

func install(_ *rig, p pair) error {
	return p.vmm.Do(func() error { return splice.Install(p.tap.Attrs().Index, p.inner.Attrs().Index) })
}

// mirred is what tc-redirect-tap does.
func mirred(r *rig, vmm netns.Namespace, bridge netlink.Link) (int, error) {
	return veth(func(_ *rig, p pair) error {
		return vmm.Do(func() error {
			for _, d := range [][2]int{{p.tap.Attrs().Index, p.inner.Attrs().Index}, {p.inner.Attrs().Index, p.tap.Attrs().Index}} {
				ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: d[0], Parent: netlink.HANDLE_INGRESS}}
				if err := netlink.QdiscAdd(ingress); err != nil {
					return err
				}
				filter := &netlink.U32{
					FilterAttrs: netlink.FilterAttrs{LinkIndex: d[0], Parent: netlink.MakeHandle(0xffff, 0), Protocol: unix.ETH_P_ALL},
					Actions:     []netlink.Action{netlink.NewMirredAction(d[1])},
				}
				if err := netlink.FilterAdd(filter); err != nil {
					return err
				}
			}
			return nil
		})
	})(r, vmm, bridge)
}

func noQueue(_ *rig, p pair) error {
	return p.vmm.Do(func() error { return splice.Unqueue(p.tap.Attrs().Index) })
}

func rps(_ *rig, p pair) error {
	return p.setSysfs("queues/rx-0/rps_cpus", "2")
}

func threaded(_ *rig, p pair) error { return p.setSysfs("threaded", "1") }

// setSysfs writes an attribute of the inner end, for which the thread needs a
// /sys of the VMM's namespace.
func (p pair) setSysfs(attribute, value string) error {
	return p.vmm.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return err
		}
		if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("sys", "/sys", "sysfs", 0, "")); err != nil {
			return err
		}
		return os.WriteFile("/sys/class/net/"+p.inner.Attrs().Name+"/"+attribute, []byte(value), 0)
	})
}

// redirect is a program that sends each frame to the device.
func redirect(kind ebpf.ProgramType, attach ebpf.AttachType, helper asm.BuiltinFunc, device int) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, AttachType: attach, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(device)), asm.Mov.Imm(asm.R2, 0), helper.Call(), asm.Return(),
		},
	})
}

// filters attaches the programs of a splice as Linux before 6.6 has them.
func filters(_ *rig, p pair) error {
	return p.vmm.Do(func() error {
		tap, inner := p.tap.Attrs().Index, p.inner.Attrs().Index
		return errors.Join(
			filter(tap, tc.Ingress, asm.FnRedirectPeer, inner),
			filter(inner, tc.Ingress, asm.FnRedirect, tap),
		)
	})
}

func filter(at int, hook tc.Hook, helper asm.BuiltinFunc, to int) error {
	program, err := redirect(ebpf.SchedCLS, ebpf.AttachNone, helper, to)
	if err != nil {
		return err
	}
	f := tcbpf.Filter{Link: at, Hook: hook, Priority: splice.Priority, Name: "splice"}
	return errors.Join(f.Attach(program), program.Close())
}

// xdp takes frames to the tap before they become socket buffers.
func xdp(r *rig, p pair) error {
	return p.vmm.Do(func() error {
		program, err := redirect(ebpf.XDP, ebpf.AttachXDP, asm.FnRedirect, p.tap.Attrs().Index)
		if err != nil {
			return err
		}
		l, err := link.AttachXDP(link.XDPOptions{Interface: p.inner.Attrs().Index, Program: program, Flags: link.XDPDriverMode})
		r.keepAlive = append(r.keepAlive, l)
		return err
	})
}

// gro makes the inner end collect frames, which takes NAPI in place of the
// queue of the CPU.
func gro(_ *rig, p pair) error {
	return p.vmm.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		value := struct{ command, on uint32 }{unix.ETHTOOL_SGRO, 1}
		request := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&value)}
		copy(request.name[:], p.inner.Attrs().Name)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return errno
		}
		return nil
	})
}
