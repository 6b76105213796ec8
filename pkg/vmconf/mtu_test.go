package vmconf_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// The MTU comes from where the tap is, and the caller stays where it was.
func TestTapMTU(t *testing.T) {
	h := sandbox.NewHost(t)
	other := h.NewNetns("vm1")
	h.Enter()
	run(t, "ip tuntap add tap1 mode tap && ip link set tap1 mtu 1400")
	run(t, "ip -n vm1 tuntap add tap1 mode tap && ip -n vm1 link set tap1 mtu 9000")
	before := namespace(t)
	for netns, want := range map[string]int{"": 1400, h.Path(): 1400, other: 9000} {
		if got, err := vmconf.TapMTU("tap1", netns); err != nil || got != want {
			t.Errorf("MTU in %q is %d, %v, want %d", netns, got, err, want)
		}
	}
	for _, c := range []struct {
		tap, netns string
		want       error
	}{
		{"tap2", other, syscall.ENODEV},
		{"tap1", "/run/netns/none", fs.ErrNotExist},
		{"tap1", "/proc/self/exe", syscall.EINVAL},
		{"a name of many bytes", "", syscall.EINVAL},
	} {
		if _, err := vmconf.TapMTU(c.tap, c.netns); !errors.Is(err, c.want) {
			t.Errorf("%s in %q: %v, want %v", c.tap, c.netns, err, c.want)
		}
	}
	if after := namespace(t); after != before {
		t.Errorf("the thread was in %s and is in %s", before, after)
	}
	run(t, "ip link del tap1; ip -n vm1 link del tap1")
}

func run(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func namespace(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}
