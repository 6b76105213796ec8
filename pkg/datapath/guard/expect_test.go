package guard

import (
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// prepared is the program that Expect made ready; 0 if there is none.
func prepared(t *testing.T, g *Guards) uint32 {
	t.Helper()
	l := <-g.ready
	ready := g.ready
	ready <- l
	t.Cleanup(func() {
		select {
		case left := <-ready: // which no Attach has taken
			if err := left.Close(); err != nil {
				t.Error(err)
			}
		default:
		}
	})
	if l.program < 0 {
		return 0
	}
	return idOf(t, l)
}

// idOf is what the kernel calls the program.
func idOf(t *testing.T, l loaded) uint32 {
	t.Helper()
	copied, err := unix.FcntlInt(uintptr(l.program), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgramFromFD(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return uint32(id)
}

// A port gets the program that was expected, whatever its addresses turn out to be,
// as long as there is one of each family at most.
func TestExpect(t *testing.T) {
	expected := frames.With(frames.Typical, func(r *Rules) {
		r.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")}
		r.Gateways, r.MACs = nil, []net.HardwareAddr{{2, 0, 0, 0, 9, 1}}
	})
	for _, tt := range []struct {
		name   string
		rules  func(*Rules)
		shared bool
	}{
		{"IPv4 and IPv6", func(*Rules) {}, true},
		{"IPv4", func(r *Rules) { r.Addresses = rulesOf(1).Addresses }, true},
		{"IPv6", func(r *Rules) { r.Addresses = r.Addresses[1:] }, true},
		{"none", func(r *Rules) { r.Addresses = nil }, true},
		{"another gateway", func(r *Rules) { r.Gateways = []netip.Addr{netip.MustParseAddr("10.9.9.254")} }, true},
		{"two of IPv4", func(r *Rules) { r.Addresses = append(rulesOf(1).Addresses, rulesOf(2).Addresses...) }, false},
		{"any", func(r *Rules) { r.L2Only = true }, false},
		{"a VLAN", func(r *Rules) { r.VLANs = []int{7} }, false},
		{"a host that is closed", func(r *Rules) { r.HostAccess, r.Router = linkspec.HostNone, 7 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
			s := newVeth(t, 100)
			g := New()
			g.Expect(expected)
			id := prepared(t, g)
			if id == 0 {
				t.Fatal("nothing is ready")
			}
			r := frames.With(frames.Typical, tt.rules)
			if err := g.Attach(100, r); err != nil {
				t.Fatal(err)
			}
			got, state, err := Observe(100)
			if err != nil || state != InPlace || !got.Equal(r.Canonical()) {
				t.Fatalf("got %v, %v, %q, want %q", state, err, got.Texts(), r.Canonical().Texts())
			}
			there, err := filter(100).Observe()
			if err != nil {
				t.Fatal(err)
			}
			if shared := there.ID == id; shared != tt.shared {
				t.Errorf("the port has program %d, and %d was made ready", there.ID, id)
			}
			if got := verdictOf(t, s, 100, probe(77)); got.String() != "source-mac" {
				t.Error(got)
			}
		})
	}
}

// One that is there is not made again, and rules that make no sense are for Attach
// to refuse.
func TestExpectWhatIsThere(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	newVeth(t, 100)
	id := mustAttach(t, 100, rulesOf(1))
	g := New()
	g.Expect(rulesOf(2))
	if again := prepared(t, g); again != id {
		t.Errorf("program %d is ready, and %d was there", again, id)
	}
	g = New()
	g.Expect(Rules{})
	if err := g.Attach(100, Rules{}); err == nil {
		t.Error("rules without a MAC address were taken")
	}
	if err := g.Attach(100, rulesOf(3)); err != nil {
		t.Error(err)
	}
}

// What is ready is what a port gets, without a look at all the programs in the
// kernel, unless somebody else has the port's place in it.
func TestAttachTakesWhatIsReady(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	attach := func(port int, r Rules, ready loaded) uint32 {
		t.Helper()
		newVeth(t, port)
		w, err := want(r)
		if err != nil {
			t.Fatal(err)
		}
		g := &Guards{expected: w, ready: make(chan loaded, 1)}
		g.ready <- ready
		if err = g.Attach(port, r); err != nil {
			t.Fatal(err)
		}
		got, state, err := Observe(port)
		if err != nil || state != InPlace || !got.Equal(r.Canonical()) {
			t.Errorf("port %d: %v, %v, %q", port, state, err, got.Texts())
		}
		there, err := filter(port).Observe()
		if err != nil {
			t.Fatal(err)
		}
		return there.ID
	}
	w, err := want(rulesOf(1))
	if err != nil {
		t.Fatal(err)
	}
	var ready [2]loaded // more of them than anybody would load
	for i := range ready {
		if ready[i], err = w.load(); err != nil {
			t.Fatal(err)
		}
	}
	id := idOf(t, ready[1])
	first := attach(100, rulesOf(1), ready[1])
	if first != id {
		t.Errorf("the port has program %d, and %d was ready", first, id)
	}
	if err = ready[0].Close(); err != nil {
		t.Fatal(err)
	}
	there, err := w.find(func(loaded) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if other := attach(100+ports, rulesOf(2), there); other == first {
		t.Errorf("ports %d and %d have program %d", 100, 100+ports, other)
	}
}
