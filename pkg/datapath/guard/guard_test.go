package guard_test

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/guard"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

func newPort(t testing.TB) int {
	t.Helper()
	sandbox.NewHost(t).Enter()
	run(t, "ip link add port type veth peer name other")
	t.Cleanup(func() { run(t, "ip link del port") })
	link, err := netlink.LinkByName("port")
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}

func run(t testing.TB, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// plain are the rules of a guest with one address of each family.
var plain = guard.Rules{
	MACs:       []net.HardwareAddr{{2, 0, 0, 0, 0, 0x11}},
	Addresses:  []netip.Prefix{netip.MustParsePrefix("10.1.0.11/32"), netip.MustParsePrefix("fd00:1::11/128")},
	Gateways:   []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")},
	StormLimit: 1000,
}

func TestAttach(t *testing.T) {
	port := newPort(t)
	if _, s, err := guard.Observe(port); s != guard.Absent || err != nil {
		t.Fatalf("a new port has a guard: %v, %v", s, err)
	}
	for range 2 {
		if err := guard.Attach(port, plain); err != nil {
			t.Fatal(err)
		}
		r, s, err := guard.Observe(port)
		if err != nil || s != guard.InPlace || !r.Equal(plain.Canonical()) {
			t.Fatalf("got %v, %v\n%v\nwant\n%v", s, err, r.Texts(), plain.Canonical().Texts())
		}
	}
	if err := guard.Detach(port); err != nil {
		t.Fatal(err)
	}
	if _, s, err := guard.Observe(port); s != guard.Absent || err != nil {
		t.Fatalf("a guard is left: %v, %v", s, err)
	}
}

func BenchmarkAttach(b *testing.B) {
	port := newPort(b)
	for b.Loop() {
		if err := guard.Attach(port, plain); err != nil {
			b.Fatal(err)
		}
		if err := guard.Detach(port); err != nil {
			b.Fatal(err)
		}
	}
}
