package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// newVeth makes a port with that index, and returns the socket of whoever sends
// into it.
func newVeth(t *testing.T, index int) int {
	t.Helper()
	// Or the kernel sends frames of its own into it, which are counted.
	command(t, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	command(t, fmt.Sprintf("ip link add port%d index %d up type veth peer name guest%d", index, index, index))
	command(t, fmt.Sprintf("ip link set guest%d up", index))
	guest, err := net.InterfaceByName(fmt.Sprintf("guest%d", index))
	if err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(s) })
	if err := unix.Bind(s, &unix.SockaddrLinklayer{Ifindex: guest.Index}); err != nil {
		t.Fatal(err)
	}
	return s
}

// rulesOf are those of the guest with that number.
func rulesOf(n byte) Rules {
	return frames.With(frames.Typical, func(r *Rules) {
		r.MACs = []net.HardwareAddr{{2, 0, 0, 0, 9, n}}
		r.Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 9, n}), 32)}
	})
}

// probe is what the guest with that number sends.
func probe(n byte) []byte {
	return frames.Eth("ff:ff:ff:ff:ff:ff", fmt.Sprintf("02:00:00:00:09:%02x", n), frames.TypeARP,
		frames.Cat([]byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 9, n, 10, 9, 9, n, 0, 0, 0, 0, 0, 0, 10, 9, 9, 1}))
}

func mustAttach(t *testing.T, port int, r Rules) uint32 {
	t.Helper()
	if err := Attach(port, r); err != nil {
		t.Fatal(err)
	}
	return inPlace(t, port, r)
}

// inPlace is the program of a port that is guarded by these rules.
func inPlace(t *testing.T, port int, r Rules) uint32 {
	t.Helper()
	got, state, err := Observe(port)
	if err != nil || state != InPlace || !got.Equal(r.Canonical()) {
		t.Fatalf("port %d: got %v, %v, %q, want %q", port, state, err, got.Texts(), r.Canonical().Texts())
	}
	p, err := filter(port).Observe()
	if err != nil {
		t.Fatal(err)
	}
	return p.ID
}

// verdictOf sends a frame into a port and returns what the guard counted.
func verdictOf(t *testing.T, socket, port int, frame []byte) Reason {
	t.Helper()
	p := tap{port: port}
	before := p.counts(t)
	if _, err := unix.Write(socket, frame); err != nil {
		t.Fatal(err)
	}
	return p.verdict(t, before)
}

// Guests of one network have one program, and each its own addresses and counters.
func TestShared(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	const one, two = 100, 200
	first, second := newVeth(t, one), newVeth(t, two)
	id := mustAttach(t, one, rulesOf(1))
	if other := mustAttach(t, two, rulesOf(2)); other != id {
		t.Errorf("port two has program %d, port one %d", other, id)
	}
	for _, c := range []struct {
		socket, port int
		guest        byte
		want         string
	}{
		{first, one, 1, "passed"},
		{first, one, 2, "source-mac"},
		{second, two, 2, "passed"},
		{second, two, 1, "source-mac"},
	} {
		if got := verdictOf(t, c.socket, c.port, probe(c.guest)); got.String() != c.want {
			t.Errorf("frame of guest %d at port %d: %v, not %s", c.guest, c.port, got, c.want)
		}
	}
	// The other's are unchanged when one gets new ones.
	passed, drops, err := Counters(one)
	if err != nil {
		t.Fatal(err)
	}
	if other := mustAttach(t, two, rulesOf(3)); other != id {
		t.Errorf("with another address port two has program %d, not %d", other, id)
	}
	if p, d, err := Counters(one); err != nil || p != passed || len(d) != len(drops) {
		t.Errorf("port one counts %d, %v, %v, not %d, %v", p, d, err, passed, drops)
	}
	if got := verdictOf(t, second, two, probe(2)); got.String() != "source-mac" {
		t.Errorf("what was port two's: %v", got)
	}
	if got := verdictOf(t, second, two, probe(3)); got.String() != "passed" {
		t.Errorf("what is port two's: %v", got)
	}
	if got := verdictOf(t, first, one, probe(1)); got.String() != "passed" {
		t.Errorf("what is port one's: %v", got)
	}
}

// A port that goes leaves the program to the others, and its place to the next.
func TestPlaceOfOneThatIsGone(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	const stays, goes, comes = 100, 200, 200 + ports
	newVeth(t, stays)
	id := mustAttach(t, stays, rulesOf(1))
	gone := newVeth(t, goes)
	mustAttach(t, goes, rulesOf(2))
	if got := verdictOf(t, gone, goes, probe(9)); got.String() != "source-mac" {
		t.Fatal(got)
	}
	command(t, fmt.Sprintf("ip link del port%d", goes))
	s := newVeth(t, comes)
	if other := mustAttach(t, comes, rulesOf(3)); other != id {
		t.Errorf("the next has program %d, not %d", other, id)
	}
	if pass, drops, err := Counters(comes); err != nil || pass != 0 || len(drops) != 0 {
		t.Errorf("the next begins with %d, %v, %v", pass, drops, err)
	}
	if err := withMaps(id, func(maps tcbpf.Maps) error {
		for _, name := range []string{dropsMap, lastMap} {
			m := maps[name]
			if err := m.Get(goes, make([]byte, 1<<16)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s still knows the one that is gone: %v", name, err)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if got := verdictOf(t, s, comes, probe(3)); got.String() != "passed" {
		t.Error(got)
	}
	command(t, fmt.Sprintf("ip link del port%d", stays))
	command(t, fmt.Sprintf("ip link del port%d", comes))
	if !eventually(t, func() bool { return !lives(t, id) }) {
		t.Fatal("the program outlives its ports")
	}
}

// Two ports that would have the same place have a program each.
func TestPlaceIsTaken(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	const one, two, third = 100, 100 + ports, 101
	first, second := newVeth(t, one), newVeth(t, two)
	id := mustAttach(t, one, rulesOf(1))
	if other := mustAttach(t, two, rulesOf(2)); other == id {
		t.Error("both have the same program")
	}
	newVeth(t, third)
	mustAttach(t, third, rulesOf(3))
	if got := verdictOf(t, first, one, probe(1)); got.String() != "passed" {
		t.Error(got)
	}
	if got := verdictOf(t, second, two, probe(2)); got.String() != "passed" {
		t.Error(got)
	}
	if got := verdictOf(t, second, two, probe(1)); got.String() != "source-mac" {
		t.Error(got)
	}
}

// Indexes mean something in one network namespace only.
func TestOtherNamespace(t *testing.T) {
	var ids []uint32
	for range 2 {
		h := sandbox.NewHost(t, sandbox.LinksMayStay)
		h.Do(func() {
			command(t, "ip link add port100 index 100 type veth peer name guest100")
			ids = append(ids, mustAttach(t, 100, rulesOf(1)))
		})
	}
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("programs %v", ids)
	}
}

// A port that the program does not know passes nothing, as one of those whose
// place it would have.
func TestUnknownPort(t *testing.T) {
	m := newMachine(t, spec(t), frames.Typical)
	if passes, err := m.run(frames.OwnARP); err != nil || !passes {
		t.Fatalf("passes: %v, %v", passes, err)
	}
	own, err := m.l.identity(testPort)
	if err != nil || own.Ifindex != testPort {
		t.Fatalf("place of port %d: %d, %v", testPort, own.Ifindex, err)
	}
	for _, other := range []uint32{0, testPort + ports} {
		own.Ifindex = other
		if err := m.l.maps[portsMap].Put(place(testPort), bytesOf(&own)); err != nil {
			t.Fatal(err)
		}
		if passes, err := m.run(frames.OwnARP); err != nil || passes {
			t.Errorf("with port %d in its place: passes: %v, %v", other, passes, err)
		}
	}
}

// What the program was told of a port may be lost, or be changed. Who attaches again
// mends it.
func TestForgottenPort(t *testing.T) {
	const port = 100
	longest, err := longestAhead()
	if err != nil {
		t.Fatal(err)
	}
	tooLong := longest + time.Hour // the more CPUs, the longer
	says := fmt.Sprintf("for %v, longer than any limit does", tooLong)
	ahead := func(set func(*identity, uint64)) func(tcbpf.Maps) error {
		return func(maps tcbpf.Maps) error {
			own, err := loaded{maps: maps}.identity(port)
			if err != nil {
				return err
			}
			now, err := tcbpf.Now()
			if err != nil {
				return err
			}
			set(&own, uint64(now+tooLong))
			return maps[portsMap].Put(place(port), bytesOf(&own))
		}
	}
	for name, c := range map[string]struct {
		change func(tcbpf.Maps) error
		says   string
	}{
		"place": {func(maps tcbpf.Maps) error {
			return maps[portsMap].Put(place(port), make([]byte, maps[portsMap].Value))
		}, "does not know the port"},
		"counters": {func(maps tcbpf.Maps) error { return maps[dropsMap].Delete(port) }, "lost the port's counters"},
		"samples":  {func(maps tcbpf.Maps) error { return maps[lastMap].Delete(port) }, "lost the port's counters"},
		"storms":   {ahead(func(own *identity, t uint64) { own.Storm = t }), says},
		"groups":   {ahead(func(own *identity, t uint64) { own.Groups = t }), says},
	} {
		t.Run(name, func(t *testing.T) {
			sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
			s := newVeth(t, port)
			id := mustAttach(t, port, rulesOf(1))
			if err := withMaps(id, c.change); err != nil {
				t.Fatal(err)
			}
			if r, state, err := Observe(port); state != Changed || err != nil || !strings.Contains(r.Instead, c.says) {
				t.Errorf("state %v, %q, %v", state, r.Instead, err)
			}
			if again := mustAttach(t, port, rulesOf(1)); again != id {
				t.Errorf("program %d instead of %d", again, id)
			}
			if _, state, err := Observe(port); state != InPlace || err != nil {
				t.Errorf("attached anew: state %v, %v", state, err)
			}
			if got := verdictOf(t, s, port, probe(1)); got.String() != "passed" {
				t.Error(got)
			}
		})
	}
}

// What the kernel is given of Go's structs is what C has: without padding.
func TestLayout(t *testing.T) {
	s := spec(t)
	for name, size := range map[string][2]int{
		"constants": {binary.Size(constants{}), int(unsafe.Sizeof(constants{}))},
		"identity":  {binary.Size(identity{}), int(unsafe.Sizeof(identity{}))},
	} {
		if size[0] != size[1] {
			t.Errorf("%s has %d bytes, of which padding is all beyond %d", name, size[1], size[0])
		}
	}
	if got, want := int(s.Maps[tcbpf.Constants].Value), binary.Size(constants{}); got != want {
		t.Errorf("constants have %d bytes in C, %d in Go", got, want)
	}
	if got, want := int(s.Maps[portsMap].Value), binary.Size(identity{}); got != want {
		t.Errorf("a port has %d bytes in C, %d in Go", got, want)
	}
}
