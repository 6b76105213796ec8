package kernel_test

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/kernel"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// onlooker notes where the link is when its guard comes and goes.
type onlooker struct {
	kernel.Guards
	t    *testing.T
	seen *[]string
}

func (o onlooker) Attach(int, linkspec.Guard) error { return o.look("guarded") }
func (o onlooker) Detach(int) error                 { return o.look("unguarded") }

func (o onlooker) look(word string) error {
	out, err := exec.Command("ip", "-o", "link", "show", "dev", "t0").CombinedOutput()
	if strings.Contains(string(out), "master br0") {
		word += " as a port"
	}
	*o.seen = append(*o.seen, word)
	return err
}

// A tap that was up before it became a port is taken back without going down: at no
// time is it a port without a guard.
func TestGuardOutlastsThePort(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	for _, line := range []string{"ip link add br0 up type bridge", "ip tuntap add t0 mode tap", "ip link set t0 up"} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	var seen []string
	k, err := kernel.New(kernel.WithGuards(onlooker{t: t, seen: &seen}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if failure := k.Close(); failure != nil {
			t.Error(failure)
		}
	})
	was, err := k.Link("t0")
	if err != nil {
		t.Fatal(err)
	}
	want := linkspec.Link{Name: "t0", Master: new("br0"), Up: new(true), Guard: &linkspec.Guard{MACs: []net.HardwareAddr{{2, 0, 0, 0, 0, 1}}}}
	for _, change := range []linkspec.Link{want, linkspec.Undo(want, was)} {
		if err = k.Set(was, change); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(seen, ", "); got != "guarded, unguarded" {
		t.Error(got)
	}
}
