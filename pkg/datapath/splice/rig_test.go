package splice_test

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/splice"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

const (
	vnetHeader = 10
	offloads   = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	patience   = 3 * time.Second
)

// rig is a bridge with a guest that is spliced to it, and a peer whose tap is a
// port of it. What is written to one is read from the other.
type rig struct {
	t           *testing.T
	host        *sandbox.Host
	guest, peer *tap
	tap, inner  int // interface indexes in the VMM's namespace
}

func newRig(t *testing.T, shortcut bool) *rig {
	t.Helper()
	r := &rig{t: t, host: sandbox.NewHost(t)}
	r.host.NewNetns("vmm")
	t.Cleanup(func() { r.host.DeleteNetns("vmm") })
	r.host.Enter()
	run(t, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	run(t, "ip link add br0 up type bridge group_fwd_mask 0x4000 mcast_snooping 0")
	t.Cleanup(func() { run(t, "ip link del br0") })
	r.peer = newTap(t, "peer")
	run(t, "ip link set peer master br0 up")
	r.vmm(func() {
		run(t, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
		r.guest = newTap(t, "tap")
		run(t, "ip link add inner up type veth peer name port netns host")
		run(t, "ip link set tap up")
		r.tap, r.inner = index(t, "tap"), index(t, "inner")
		install(t, r.tap, r.inner)
		if shortcut {
			if err := splice.Unqueue(r.tap); err != nil {
				t.Fatal(err)
			}
			r.createUpper()
		}
	})
	t.Cleanup(func() { run(t, "ip link del port") })
	run(t, "ip link set port master br0 up")
	if shortcut {
		run(t, "ip link set upper up")
		if err := splice.InstallShortcut(index(t, "port"), index(t, "upper")); err != nil {
			t.Fatal(err)
		}
	}
	r.await()
	return r
}

// createUpper is called in the VMM's namespace.
func (r *rig) createUpper() {
	r.t.Helper()
	fd, err := unix.Open(r.host.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := splice.CreateUpper("upper", r.tap, fd); err != nil {
		r.t.Fatal(err)
	}
}

// vmm runs f in the namespace of the VMM.
func (r *rig) vmm(f func()) {
	r.t.Helper()
	r.host.Do(func() {
		runtime.LockOSThread()
		fd, err := unix.Open("/run/netns/vmm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
		if err != nil {
			r.t.Fatal(err)
		}
		f()
	})
}

// await returns when frames pass both ways: a port becomes ready a moment after
// it is up.
func (r *rig) await() {
	r.t.Helper()
	hello := append(make([]byte, vnetHeader), bytes.Repeat([]byte{0xff}, 60)...)
	copy(hello[vnetHeader+6:], []byte{2, 0, 0, 0, 0, 9, 0x88, 0xb5})
	for _, d := range [][2]*tap{{r.guest, r.peer}, {r.peer, r.guest}} {
		for start := time.Now(); ; {
			d[0].send(hello)
			if got := d[1].receive(10 * time.Millisecond); got != nil {
				break
			}
			if time.Since(start) > patience {
				r.t.Fatalf("no frame passes from %s to %s", d[0].name, d[1].name)
			}
		}
		for d[1].receive(10*time.Millisecond) != nil {
			continue // hellos that came late
		}
	}
}

// tap is one that a VMM opened.
type tap struct {
	t    *testing.T
	name string
	fd   int
}

// newTap makes a tap in the namespace of the thread. It ends with the test.
func newTap(t *testing.T, name string) *tap {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	u := &tap{t: t, name: name, fd: fd}
	u.offload(offloads)
	return u
}

// offload tells the kernel what the guest can leave and take undone.
func (u *tap) offload(what int) {
	u.t.Helper()
	if err := unix.IoctlSetInt(u.fd, unix.TUNSETOFFLOAD, what); err != nil {
		u.t.Fatal(err)
	}
}

func (u *tap) send(frame []byte) {
	u.t.Helper()
	if _, err := unix.Write(u.fd, frame); err != nil {
		u.t.Fatalf("write to %s: %v", u.name, err)
	}
}

// receive returns the next frame, or nil.
func (u *tap) receive(patience time.Duration) []byte {
	u.t.Helper()
	return receive(u.t, u.fd, patience)
}

func receive(t *testing.T, fd int, patience time.Duration) []byte {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); ; {
		n, err := unix.Poll(fds, int(max(time.Until(deadline).Milliseconds(), 0)))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return nil
		}
		buf := make([]byte, 1<<17)
		if n, err = unix.Read(fd, buf); err == nil {
			return buf[:n]
		}
		if err != unix.EAGAIN {
			t.Fatal(err)
		}
	}
}

// listen opens a packet socket that gets all that a device of the thread's
// namespace receives.
func listen(t *testing.T, device string) int {
	t.Helper()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	link, err := net.InterfaceByName(device)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
