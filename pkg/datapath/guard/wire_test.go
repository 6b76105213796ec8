package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// tap is a guest's NIC as its VMM has it, with virtio headers.
type tap struct {
	file *os.File
	port int
}

const virtioHeader = 10

func newTap(t testing.TB) tap { return tapNamed(t, "tap") }

func tapNamed(t testing.TB, name string) tap {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(errors.Join(err, unix.Close(fd)))
	}
	file := os.NewFile(uintptr(fd), name) // it is a tap by now, which can be waited for
	t.Cleanup(func() { _ = file.Close() })
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP)
	if err = errors.Join(unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request), unix.Close(s)); err != nil {
		t.Fatal(err)
	}
	link, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return tap{file, link.Index}
}

func (p tap) setMTU(t testing.TB, mtu int) {
	t.Helper()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq(p.file.Name())
	if err == nil {
		request.SetUint32(uint32(mtu))
		err = unix.IoctlIfreq(s, unix.SIOCSIFMTU, request)
	}
	if err = errors.Join(err, unix.Close(s)); err != nil {
		t.Fatal(err)
	}
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
		for _, h := range [][virtioHeader]byte{{}, gso(1, 34, 16), gso(3, 34, 6), gso(4, 54, 16), gso(5, 34, 6)} {
			before := p.counts(t)
			err := p.send(a.Frame, h)
			if errors.Is(err, unix.EINVAL) && h[1] != 0 {
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", a.Name, err)
			}
			if got := p.verdict(t, before); got.String() != offloaded(a, want, h) {
				t.Errorf("%s: %v, not %s (GSO type %d)", a.Name, got, want, h[1])
			}
		}
	}
}

// offloaded is what becomes of a frame whose header has its checksum elsewhere than
// it is, or that is to be several requests.
func offloaded(a frames.Attempt, want string, h [virtioHeader]byte) string {
	if want != passed.String() || h[0] == 0 {
		return want
	}
	if why := notASegment(a); why != "" && len(a.Frame) > longest {
		return why
	}
	place := int(binary.NativeEndian.Uint16(h[6:])) + int(binary.NativeEndian.Uint16(h[8:]))
	if at := frames.ChecksumOf(a.Frame); at == 0 || place < at {
		return "checksum"
	}
	return want
}

// longest is a frame that the kernel has not to cut up by gso(): of 100 bytes behind the
// headers.
const longest = 54 + 100

// notASegment is why a segment may not be what the frame is; "" for no reason.
func notASegment(a frames.Attempt) string {
	switch {
	case frames.IsFragment(a.Frame):
		return map[byte]string{4: "ip4-fragment", 6: "ip6-fragment"}[a.Frame[14]>>4]
	case a.Name == "dhcp/v6 solicit":
		return "dhcp6-client"
	case strings.HasPrefix(a.Name, "dhcp/"):
		return "dhcp4-client"
	}
	return ""
}

// TestOffload leaves checksums to the kernel. What may pass arrives, with nothing
// changed but the checksum.
func TestOffload(t *testing.T) {
	there, err := packets()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("as the packet says", func(t *testing.T) { offloads(t, there, false) })
	// Where the kernel's memory may not be read.
	var cuts bool
	t.Run("what the kernel cuts off", func(t *testing.T) { cuts = cutsOff(t) })
	t.Run("as the kernel lets it be cut", func(t *testing.T) { offloads(t, packet{}, cuts) })
}

// cutsOff tells whether this kernel lets a program cut off the place of a checksum
// that it has yet to write.
func cutsOff(t *testing.T) bool {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	const start, at, unset, stack = 34, 16, 1, -16
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if err = m.Put(uint32(0), int64(unset)); err != nil {
		t.Fatal(err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, start+at+1), asm.Mov.Imm(asm.R3, 0), asm.FnSkbChangeTail.Call(),
		asm.StoreMem(asm.RFP, stack, asm.R0, asm.DWord), asm.StoreImm(asm.RFP, stack+8, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stack+8),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stack), asm.Mov.Imm(asm.R4, 0), asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, 0), asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	if err := filter(p.port).Attach(tcbpf.FD(program.FD())); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(frames.Offloads, func(o frames.Offload) bool { return o.Start == start && o.At == at && o.By == "passed" })
	if err := p.send(frames.Sealed(frames.Offloads[i].Frame), unfinished(frames.Offloads[i])); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		var got int64
		if err := m.Lookup(uint32(0), &got); err != nil || time.Now().After(deadline) {
			t.Fatal("the program never saw the frame: ", err)
		}
		if got != unset {
			return got == 0
		}
	}
}

// offloads are sent to a program that knows no more of packets than that. One that
// knows nothing drops all that leave their own checksum to a kernel that cuts its place
// off; a checksum inside is too far behind.
func offloads(t *testing.T, knows packet, dropsAll bool) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p, victim := tapNamed(t, "tap"), tapNamed(t, "victim")
	for _, line := range []string{"ip link add hub type bridge mcast_snooping 0", "ip link set hub up", "ip link set tap master hub", "ip link set victim master hub"} {
		command(t, line)
	}
	w, err := want(frames.Typical)
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.loadFor(knows)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := Attach(p.port, frames.Typical); err != nil { // which finds that one
		t.Fatal(err)
	}
	const inner = 80 // where the packet inside another has its header
	for _, o := range frames.Offloads {
		by := o.By
		if dropsAll && o.Start < inner {
			by = "checksum"
		}
		frame := frames.Sealed(o.Frame)
		before := p.counts(t)
		if err := p.send(frame, unfinished(o)); err != nil {
			t.Fatal(err)
		}
		if got := p.verdict(t, before); got.String() != by {
			t.Errorf("%s: %v, not %s", o.Name, got, by)
			continue
		}
		if by != passed.String() {
			continue
		}
		arrived := victim.receive(t, o.Name, frames.MAC(frames.GuestMAC))
		at := o.Start + o.At
		copy(frame[at:at+2], arrived[at:])
		if !bytes.Equal(arrived, frame) {
			t.Errorf("%s: arrives as\n%x, sent as\n%x", o.Name, arrived, frame)
		}
	}
}

// unfinished is the virtio header that leaves the checksum to the kernel.
func unfinished(o frames.Offload) [virtioHeader]byte {
	h := [virtioHeader]byte{0: 1}
	binary.NativeEndian.PutUint16(h[6:], uint16(o.Start))
	binary.NativeEndian.PutUint16(h[8:], uint16(o.At))
	return h
}

// receive waits for a frame from that station.
func (p tap) receive(t testing.TB, what string, from net.HardwareAddr) []byte {
	t.Helper()
	if err := p.file.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	for {
		n, err := p.file.Read(b)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if f := b[virtioHeader:n]; bytes.Equal(f[6:12], from) {
			return f
		}
	}
}

// TestStormOfSegments has a frame to everybody that is cut into many.
func TestStormOfSegments(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	if err := Attach(p.port, frames.With(frames.Typical, func(r *Rules) { r.StormLimit = 10 })); err != nil {
		t.Fatal(err)
	}
	frame := frames.Eth(frames.Broadcast, frames.GuestMAC, frames.TypeIPv4,
		frames.IP4(frames.Guest4, "10.1.0.255", frames.ProtoTCP, frames.TCP(1, 2), frames.Zeros(2000)))
	for _, c := range []struct {
		size int
		want string
	}{{100, "storm"}, {1000, "passed"}} {
		h := gso(1, 34, 16)
		binary.NativeEndian.PutUint16(h[4:], uint16(c.size))
		before := p.counts(t)
		if err := p.send(frame, h); err != nil {
			t.Fatal(err)
		}
		if got := p.verdict(t, before); got.String() != c.want {
			t.Errorf("segments of %d: %v, not %s", c.size, got, c.want)
		}
	}
}

// TestSegmentSize has segments of just the port's MTU, and longer ones. 1480 bytes behind
// the headers are those of a guest that was not told of a smaller MTU.
func TestSegmentSize(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	if err := Attach(p.port, frames.Typical); err != nil {
		t.Fatal(err)
	}
	const untold = 1480
	payload := frames.Zeros(4000)
	tooLong := "segment-size"
	if !tcbpf.KernelAtLeast(5, 12) {
		tooLong = "passed"
	}
	for name, c := range map[string]struct {
		header  [virtioHeader]byte
		headers int
		frame   []byte
	}{
		"TCP":       {gso(1, 34, 16), 40, frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoTCP, frames.TCP(1, 2), payload))},
		"TCP, v6":   {gso(4, 54, 16), 60, frames.Out(frames.TypeIPv6, frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoTCP, frames.TCP(1, 2), payload))},
		"datagrams": {gso(5, 34, 6), 28, frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoUDP, frames.UDP(1, 2, payload)))},
		"fragments": {gso(3, 34, 6), 20, frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoUDP, frames.UDP(1, 2, payload)))},
	} {
		for _, step := range []struct {
			mtu, size int
			want      string
		}{{3000, 3000 - c.headers, "passed"}, {3000, 3000 - c.headers + 1, tooLong}, {1400, untold, "passed"}, {1400, untold + 1, tooLong}} {
			p.setMTU(t, step.mtu)
			binary.NativeEndian.PutUint16(c.header[4:], uint16(step.size))
			before := p.counts(t)
			if err := p.send(c.frame, c.header); errors.Is(err, unix.EINVAL) && c.header[1] != 1 && c.header[1] != 4 {
				t.Logf("%s: this kernel knows no such segments", name)
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if got := p.verdict(t, before); got.String() != step.want {
				t.Errorf("%s, segments of %d bytes at an MTU of %d: %v, not %s", name, step.size, step.mtu, got, step.want)
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

// Of three addresses the program looks through four places, the last of which no
// rules name.
func TestRulesThatNobodyGave(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	r := frames.With(frames.Typical, func(r *Rules) { r.Addresses = frames.Prefixes("10.1.0.11/32", "10.1.0.12/32", "10.1.0.13/32") })
	if err := Attach(p.port, r); err != nil {
		t.Fatal(err)
	}
	if got, state, err := Observe(p.port); err != nil || state != InPlace || !got.Equal(r) {
		t.Fatalf("%v, %v, error %v", state, got.Texts(), err)
	}
	err := withGuard(p.port, func(maps tcbpf.Maps) error {
		id, err := loaded{maps: maps}.identity(p.port)
		id.Own4[3] = net4{Net: [4]byte{10, 1, 0, 0}, Mask: [4]byte{255, 255, 255, 0}}
		return errors.Join(err, maps[portsMap].Put(place(p.port), bytesOf(&id)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, state, err := Observe(p.port); err != nil || state != Changed || !strings.Contains(got.Instead, "rules that it was not given") {
		t.Errorf("%v, %q, %v, error %v", state, got.Instead, got.Texts(), err)
	}
	if err := Attach(p.port, r); err != nil {
		t.Fatal(err)
	}
	if _, state, err := Observe(p.port); err != nil || state != InPlace {
		t.Errorf("after the next ADD: %v, error %v", state, err)
	}
}
