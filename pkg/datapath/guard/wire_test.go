package guard

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// tap is a guest's NIC as its VMM has it, with virtio headers.
type tap struct {
	file *os.File
	port int
}

const virtioHeader = 10

func newTap(t testing.TB) tap {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "tap")
	t.Cleanup(func() { _ = file.Close() })
	request, err := unix.NewIfreq("tap")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP)
	if err = errors.Join(unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request), unix.Close(s)); err != nil {
		t.Fatal(err)
	}
	link, err := net.InterfaceByName("tap")
	if err != nil {
		t.Fatal(err)
	}
	return tap{file, link.Index}
}

// send writes a frame with a virtio header. The kernel refuses a GSO frame that
// is not what its header says, which is as good as dropped.
func (p tap) send(frame []byte, header [virtioHeader]byte) error {
	_, err := p.file.Write(frames.Cat(header[:], frame))
	return err
}

// gso is a virtio header that asks for segmentation, of a checksum at an offset.
func gso(kind byte, start, at int) [virtioHeader]byte {
	h := [virtioHeader]byte{0: 1, 1: kind}
	binary.NativeEndian.PutUint16(h[2:], uint16(start+20))
	binary.NativeEndian.PutUint16(h[4:], 100)
	binary.NativeEndian.PutUint16(h[6:], uint16(start))
	binary.NativeEndian.PutUint16(h[8:], uint16(at))
	return h
}

// verdict waits for the guard to count one frame more, and returns the reason.
func (p tap) verdict(t testing.TB, before map[Reason]uint64) Reason {
	t.Helper()
	var why Reason
	p.until(t, func(counts map[Reason]uint64) bool {
		for r, n := range counts {
			if n > before[r] {
				why = r
				return true
			}
		}
		return false
	})
	return why
}

// until waits for counters that are as told, and returns them.
func (p tap) until(t testing.TB, done func(map[Reason]uint64) bool) map[Reason]uint64 {
	t.Helper()
	deadline := time.After(10 * time.Second)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		if c := p.counts(t); done(c) {
			return c
		}
		select {
		case <-deadline:
			t.Fatalf("the guard saw too few frames: %v", p.counts(t))
		case <-again.C:
		}
	}
}

func (p tap) counts(t testing.TB) map[Reason]uint64 {
	t.Helper()
	pass, drops, err := Counters(p.port)
	if err != nil {
		t.Fatal(err)
	}
	drops[passed] = pass
	return drops
}

// TestWire sends what the other tests judge from a real tap, plain and as GSO.
func TestWire(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	// The kernel takes a tag off before a program sees the frame.
	onWire := map[string]string{
		"l2/802.1Q": "vlan-not-allowed", "l2/priority tag": "vlan-not-allowed",
		"l2/802.1Q without IPAM": "vlan-not-allowed", "l2/QinQ": "vlan-type",
	}
	var rules []string
	for _, a := range slices.Concat(frames.Attacks, frames.Legitimate, frames.Trunk) {
		if !slices.Equal(rules, a.Rules.Texts()) {
			rules = a.Rules.Texts()
			if err := Attach(p.port, a.Rules); err != nil {
				t.Fatal(err)
			}
		}
		want := a.By
		if w := onWire[a.Name]; w != "" {
			want = w
		}
		for _, h := range [][virtioHeader]byte{{}, gso(1, 34, 16), gso(4, 54, 16), gso(5, 34, 6)} {
			before := p.counts(t)
			err := p.send(a.Frame, h)
			if errors.Is(err, unix.EINVAL) && h[1] != 0 {
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", a.Name, err)
			}
			if got := p.verdict(t, before); got.String() != want {
				t.Errorf("%s: %v, not %s (GSO type %d)", a.Name, got, want, h[1])
			}
		}
	}
}

// TestLargeGSO sends segments of 60 KB, which lie in pages of their own.
func TestLargeGSO(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	if err := Attach(p.port, frames.Typical); err != nil {
		t.Fatal(err)
	}
	for _, a := range frames.LargeGSO {
		h := gso(1, 34, 16)
		if a.Frame[12] == 0x86 {
			h = gso(4, 54, 16)
		}
		for _, linear := range []int{0, 14, 54, 1400} {
			binary.NativeEndian.PutUint16(h[2:], uint16(linear))
			before := p.counts(t)
			if err := p.send(a.Frame, h); err != nil {
				t.Fatal(err)
			}
			if got := p.verdict(t, before); got.String() != a.By {
				t.Errorf("%s, %d bytes in the first buffer: %v, not %s", a.Name, linear, got, a.By)
			}
		}
	}
}

func TestStorm(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	const limit = 20
	if err := Attach(p.port, frames.With(frames.Typical, func(r *Rules) { r.StormLimit = limit })); err != nil {
		t.Fatal(err)
	}
	const sent = 3 * limit
	start := time.Now()
	for range sent {
		if err := p.send(frames.OwnARP, [virtioHeader]byte{}); err != nil {
			t.Fatal(err)
		}
		if err := p.send(frames.Out(frames.TypeARP, frames.OwnARP[14:]), [virtioHeader]byte{}); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	c := p.until(t, func(c map[Reason]uint64) bool { return c[passed]+c[48] >= 2*sent })
	// What has one receiver is not counted.
	atMost := uint64(sent + limit + 2 + int(took.Seconds()*limit))
	if c[passed] > atMost || c[passed] < sent+limit || c[48] == 0 || Reason(48).String() != "storm" {
		t.Errorf("in %v: %v, of which %d may pass", took, c, atMost)
	}
}

func TestLastDrop(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	if err := Attach(p.port, frames.Typical); err != nil {
		t.Fatal(err)
	}
	for _, frame := range [][]byte{
		frames.Out(frames.TypeIPv4, frames.IP4(frames.Neighbour4, frames.Gateway4, frames.ProtoUDP, frames.UDP(1, 2, []byte("hello")))),
		frames.Eth(frames.GatewayMAC, frames.NeighbourMAC, frames.TypeIPv4, frames.Zeros(1000)),
	} {
		before := p.counts(t)
		if err := p.send(frame, [virtioHeader]byte{}); err != nil {
			t.Fatal(err)
		}
		why := p.verdict(t, before)
		drops, err := LastDrops(p.port)
		if err != nil {
			t.Fatal(err)
		}
		d, ok := drops[why]
		if !ok || d.Length != len(frame) || !slices.Equal(d.Frame, frame[:min(len(frame), 128)]) || d.Time == 0 {
			t.Errorf("%v: %+v", why, d)
		}
	}
}
