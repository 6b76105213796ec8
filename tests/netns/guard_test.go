package netns

import (
	"net"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/kernel"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// A guard that takes another device, or another address, for the router is not
// the one that was declared.
func TestGuardWithAnotherRouter(t *testing.T) {
	k := newKernel(t)
	bridge := create(t, k, linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
	tap := create(t, k, linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	want := linkspec.Link{Name: "tap0", Guard: new(linkspec.Guard{
		MACs: []net.HardwareAddr{{2, 0xaa, 0, 0, 0, 1}}, HostAccess: linkspec.HostNone, Via: "br0",
	}.Canonical())}
	must(t, k.Set(tap, linkspec.Link{Guard: want.Guard, Master: new("br0")}))
	expect := func(n int, why string) {
		t.Helper()
		if d := linkspec.Diff(want, guarded(t, k)); len(d) != n {
			t.Errorf("%s: differences are %v", why, d)
		}
	}
	expect(0, "as declared")
	must(t, k.Set(bridge, linkspec.Link{MAC: net.HardwareAddr{2, 0xbb, 0, 0, 0, 1}}))
	expect(1, "the router has another address")
	must(t, k.Set(bridge, linkspec.Link{MAC: bridge.MAC}))
	expect(0, "the router has its address again")
	ip(t, "ip", "link", "set", "br0", "name", "br9")
	expect(1, "the router has another name")
}

// Whatever is done to the program is seen.
func TestGuardTakenOffByHand(t *testing.T) {
	k := newKernel(t)
	create(t, k, linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
	tap := create(t, k, linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	want := linkspec.Link{Name: "tap0", Guard: new(linkspec.Guard{MACs: []net.HardwareAddr{{2, 0xaa, 0, 0, 0, 1}}}.Canonical())}
	must(t, k.Set(tap, linkspec.Link{Guard: want.Guard, Master: new("br0")}))
	for _, c := range [][]string{
		{"tc", "filter", "del", "dev", "tap0", "ingress"},
		{"tc", "qdisc", "del", "dev", "tap0", "clsact"},
	} {
		ip(t, c[0], c[1:]...)
		if d := linkspec.Diff(want, guarded(t, k)); len(d) != 1 {
			t.Errorf("after %v the differences are %v", c, d)
		}
		must(t, k.Set(look(t, k, "tap0"), linkspec.Link{Guard: want.Guard}))
		if d := linkspec.Diff(want, guarded(t, k)); len(d) != 0 {
			t.Errorf("attached again, and still %v", d)
		}
	}
}

// guarded is the tap with its guard.
func guarded(t *testing.T, k *kernel.Kernel) linkspec.Link {
	t.Helper()
	l := look(t, k, "tap0")
	g, err := k.Guard(l)
	must(t, err)
	l.Guard = &g
	return l
}
