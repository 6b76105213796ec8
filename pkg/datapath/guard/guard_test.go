package guard_test

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/guard"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
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

func run(t testing.TB, command string) {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// plain are the rules of a guest with one address of each family.
var plain = guard.Rules{
	MACs:       []net.HardwareAddr{{2, 0, 0, 0, 0, 0x11}},
	Addresses:  []netip.Prefix{netip.MustParsePrefix("10.1.0.11/32"), netip.MustParsePrefix("fd00:1::11/128")},
	Gateways:   []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")},
	StormLimit: 1000, GroupLimit: 128,
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

// TestReplace changes the rules of a guard: the counters begin anew.
func TestReplace(t *testing.T) {
	port := newPort(t)
	attach(t, port, plain)
	everything := plain
	everything.MACs = append(slices.Clone(plain.MACs), net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 0x12})
	everything.Addresses = append(slices.Clone(plain.Addresses), netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("fd00:2::/64"))
	everything.VLANs = []int{1, 63, 64, 4094}
	everything.Isolate, everything.Subnets = true, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	everything.HostAccess, everything.Router, everything.HostMACs = linkspec.HostGateway, 7, everything.MACs[1:2]
	everything.ReachMetadata, everything.VRRP, everything.StormLimit, everything.GroupLimit = true, true, 700001, 4095
	attach(t, port, everything)
	attach(t, port, guard.Rules{MACs: plain.MACs, L2Only: true})
	attach(t, port, plain)
}

// attach attaches, and reads back.
func attach(t *testing.T, port int, r guard.Rules) {
	t.Helper()
	if err := guard.Attach(port, r); err != nil {
		t.Fatal(err)
	}
	got, s, err := guard.Observe(port)
	if err != nil || s != guard.InPlace || !got.Equal(r.Canonical()) {
		t.Fatalf("got %v, %v\n%v\nwant\n%v", s, err, got.Texts(), r.Canonical().Texts())
	}
}

// TestSame leaves a guard alone that is as it should be.
func TestSame(t *testing.T) {
	port := newPort(t)
	attach(t, port, plain)
	before := id(t, port)
	attach(t, port, plain)
	if after := id(t, port); after != before {
		t.Errorf("program %d was replaced by %d", before, after)
	}
	changed := plain
	changed.StormLimit++
	attach(t, port, changed)
	if after := id(t, port); after == before {
		t.Error("other rules, but the same program")
	}
}

func place(port int) tcbpf.Filter {
	return tcbpf.Filter{Link: port, Hook: tc.Ingress, Priority: guard.Priority, Name: "microvm-cni:guard"}
}

func id(t *testing.T, port int) uint32 {
	t.Helper()
	p, err := place(port).Observe()
	if err != nil || p.ID == 0 {
		t.Fatalf("no program: %v", err)
	}
	return p.ID
}

// TestForged puts another program in the guard's place.
func TestForged(t *testing.T) {
	port := newPort(t)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "guard", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err = errors.Join(place(port).Attach(p), p.Close()); err != nil {
		t.Fatal(err)
	}
	if r, s, err := guard.Observe(port); err != nil || s != guard.Changed || !strings.Contains(r.Instead, "another version of the plugins, or somebody else's") {
		t.Errorf("got %v, %q, %v", s, r.Instead, err)
	}
	attach(t, port, plain)
}

func TestNoGuard(t *testing.T) {
	port := newPort(t)
	if _, _, err := guard.Counters(port); !errors.Is(err, guard.ErrNoGuard) {
		t.Errorf("counters: %v", err)
	}
	if _, err := guard.LastDrops(port); !errors.Is(err, guard.ErrNoGuard) {
		t.Errorf("last drops: %v", err)
	}
	if err := guard.Detach(port); err != nil {
		t.Errorf("detach: %v", err)
	}
}

func TestSupported(t *testing.T) {
	if caveat, err := guard.Supported(); err != nil || caveat != "" {
		t.Fatalf("%q, %v", caveat, err)
	}
}

func TestRefused(t *testing.T) {
	port := newPort(t)
	many := func(n int) (all []netip.Prefix) {
		for i := range n {
			all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 9, byte(i)}), 32))
		}
		return all
	}
	for name, r := range map[string]guard.Rules{
		"no MAC":             {},
		"multicast MAC":      {MACs: []net.HardwareAddr{{1, 0, 0, 0, 0, 1}}},
		"short MAC":          {MACs: []net.HardwareAddr{{2, 0}}},
		"multicast address":  {MACs: plain.MACs, Addresses: []netip.Prefix{netip.MustParsePrefix("ff02::/16")}},
		"0.0.0.0":            {MACs: plain.MACs, Addresses: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32")}},
		"too many addresses": {MACs: plain.MACs, Addresses: many(17)},
		"VLAN 0":             {MACs: plain.MACs, VLANs: []int{0}},
		"VLAN 4095":          {MACs: plain.MACs, VLANs: []int{4095}},
		"host access":        {MACs: plain.MACs, HostAccess: "some"},
		"group limit":        {MACs: plain.MACs, GroupLimit: 4097},
		"storm limit":        {MACs: plain.MACs, StormLimit: -1},
	} {
		err := guard.Attach(port, r)
		if e := new(*cnierr.Error); !errors.As(err, e) || (*e).Code != cnierr.Config {
			t.Errorf("%s: %v", name, err)
		}
		if _, s, err := guard.Observe(port); s != guard.Absent || err != nil {
			t.Fatalf("%s left a guard: %v, %v", name, s, err)
		}
	}
	attach(t, port, guard.Rules{MACs: plain.MACs, Addresses: many(16)})
}

// TestMemlock attaches a guard when no more memory may be locked, as with a few
// guests on Linux before 5.11.
func TestMemlock(t *testing.T) {
	port := newPort(t)
	var old unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &old); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil) }()
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	attach(t, port, plain)
}
