package splice_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/splice"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

func run(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func index(t *testing.T, name string) int {
	t.Helper()
	device, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return device.Attrs().Index
}

// newDevice makes a device that ends with the test.
func newDevice(t *testing.T, name string) int {
	t.Helper()
	run(t, "ip link add "+name+" type ifb")
	t.Cleanup(func() { run(t, "ip link del "+name) })
	return index(t, name)
}

func observe(t *testing.T, tap, inner int) splice.State {
	t.Helper()
	s, err := splice.Observe(tap, inner)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func install(t *testing.T, tap, inner int) {
	t.Helper()
	if err := splice.Install(tap, inner); err != nil {
		t.Fatal(err)
	}
	if s := observe(t, tap, inner); s != splice.Whole {
		t.Fatalf("installed, and there is %+v", s)
	}
}

// attached is what is at the ingress, the programs' numbers included.
func attached(t *testing.T, device string) string {
	t.Helper()
	return fmt.Sprint(tcxPrograms(t, device)) + run(t, "tc qdisc show dev "+device) + run(t, "tc filter show dev "+device+" ingress")
}

func tcxPrograms(t *testing.T, device string) []link.AttachedProgram {
	t.Helper()
	there, err := link.QueryPrograms(link.QueryOptions{Target: index(t, device), Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return there.Programs
}

func TestInstall(t *testing.T) {
	sandbox.NewHost(t).Enter()
	tap, inner, other := newDevice(t, "tap"), newDevice(t, "inner"), newDevice(t, "other")
	if s := observe(t, tap, inner); s != (splice.State{}) {
		t.Errorf("nothing installed, and there is %+v", s)
	}
	before := attached(t, "tap") + attached(t, "inner")
	install(t, tap, inner)
	first := attached(t, "tap") + attached(t, "inner")
	install(t, tap, inner)
	if again := attached(t, "tap") + attached(t, "inner"); again != first {
		t.Errorf("installed again:\n%s\nwas:\n%s", again, first)
	}

	// The tag tells a program with another target from ours.
	if s := observe(t, tap, other); s != (splice.State{}) {
		t.Errorf("spliced to another device, and there is %+v", s)
	}
	install(t, tap, other)
	if s := observe(t, tap, inner); s != (splice.State{ToGuest: true}) {
		t.Errorf("tap spliced away, and there is %+v", s)
	}
	for _, remaining := range []int{other, inner} {
		if err := splice.Remove(tap, remaining); err != nil {
			t.Fatal(err)
		}
	}
	if after := attached(t, "tap") + attached(t, "inner"); after != before {
		t.Errorf("removed:\n%s\nwas:\n%s", after, before)
	}
	if err := splice.Remove(tap, inner); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
}

func TestForeignFilter(t *testing.T) {
	sandbox.NewHost(t).Enter()
	tap, inner := newDevice(t, "tap"), newDevice(t, "inner")
	run(t, "tc qdisc add dev inner clsact")
	run(t, "tc filter add dev inner ingress pref 40000 protocol all u32 match u32 0 0")
	before := attached(t, "inner")
	// It is in the way where our program is a filter too.
	var e *cnierr.Error
	switch err := splice.Install(tap, inner); {
	case len(tcxPrograms(t, "tap")) > 0:
		if s := observe(t, tap, inner); err != nil || s != splice.Whole {
			t.Errorf("there is %+v, %v", s, err)
		}
	case !errors.As(err, &e) || e.Code != cnierr.Exists:
		t.Errorf("%v, want an error of code %d", err, cnierr.Exists)
	}
	if err := splice.Remove(tap, inner); err != nil {
		t.Error(err)
	}
	if after := attached(t, "inner"); after != before {
		t.Errorf("a foreign filter became\n%s\nwas:\n%s", after, before)
	}
}

// The first Install of a process takes longer than those that follow.
func BenchmarkInstall(b *testing.B) {
	sandbox.NewHost(b).Enter()
	for _, name := range []string{"tap", "inner"} {
		if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			b.Fatal(err)
		}
	}
	var index [2]int
	for i, name := range []string{"tap", "inner"} {
		device, err := netlink.LinkByName(name)
		if err != nil {
			b.Fatal(err)
		}
		index[i] = device.Attrs().Index
		b.Cleanup(func() {
			if err := netlink.LinkDel(device); err != nil {
				b.Error(err)
			}
		})
	}
	for b.Loop() {
		if err := splice.Install(index[0], index[1]); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := splice.Remove(index[0], index[1]); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
