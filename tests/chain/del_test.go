package chain

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// DEL leaves nothing, whatever the runtime still knows.
func TestDelLeavesNothing(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(n *network, v *vm)
	}{
		{"as ADD was called", func(*network, *vm) {}},
		{"empty netns", func(_ *network, v *vm) { v.netns = "" }},
		{"vanished netns", func(n *network, _ *vm) { n.h.DeleteNetns("gone") }},
		{"another netns", func(n *network, v *vm) { v.netns = n.h.NewNetns("reused") }},
		{"no prevResult", func(n *network, _ *vm) { n.forget() }},
		{"neither netns nor prevResult", func(n *network, v *vm) { n.forget(); v.netns = "" }},
		{"another chain order", func(n *network, _ *vm) { n.plugins = []conf{gateway, tap} }},
		{"another chain order, no prevResult", func(n *network, _ *vm) { n.forget(); n.plugins = []conf{gateway, tap} }},
		{"a configuration that ADD would refuse", func(n *network, _ *vm) {
			n.plugins = []conf{tap.with(conf{"owner": "no-such-user", "mtu": "x"}), gateway.with(conf{"isGatway": 1, "mtu": -1})}
		}},
		{"arguments that ADD would refuse", func(_ *network, v *vm) { v.args = "TAP_NAME=a/b;MAC=none;FOO=1" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, version := range since("0.3.0") {
				t.Run(version, func(t *testing.T) {
					h := newHost(t)
					n := h.network("lab", version, tap, gateway)
					v := h.vm("vm1")
					v.netns = h.NewNetns("gone")
					n.add(v)
					test.spoil(n, &v)
					n.remove(v)
					h.empty()
					n.remove(v)
				})
			}
		})
	}
}

// DEL without an ADD before it is what some runtimes begin with.
func TestDelFirst(t *testing.T) {
	for _, version := range since("0.3.0") {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", version, tap, gateway)
			v := h.vm("vm1")
			v.netns = ""
			n.remove(v)
			v.netns = "/run/netns/none"
			n.remove(v)
		})
	}
}

// DEL takes the tap away from a VMM that still holds it.
func TestDelWhileTheVMMRuns(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	v := h.vm("vm1")
	name := v.tapOf(n.add(v))
	vmm := h.open(name)
	defer vmm.Close()
	n.holds(v)
	n.remove(v)
	h.empty()
}

// open opens the tap as a VMM does.
func (h *host) open(tap string) (vmm *os.File) {
	h.t.Helper()
	err := h.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		vmm = os.NewFile(uintptr(fd), "/dev/net/tun")
		request, err := unix.NewIfreq(tap)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	})
	if err != nil {
		h.t.Fatalf("open tap %s: %v", tap, err)
	}
	return vmm
}

// DEL touches nothing that is somebody else's, even under a name that was ours.
func TestDelSparesOthers(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	v := h.vm("vm1")
	v.args = "TAP_NAME=vmtap"
	r := n.add(v)
	h.sh("ip link del vmtap")
	h.tap("vmtap")
	h.tap("eth0")
	h.exec(call{plugin: "microvm-bridge", verb: "DEL", vm: v, stdin: n.single(1, conf{"prevResult": r})}).silent(t)
	h.exec(call{plugin: "microvm-tap", verb: "DEL", vm: v, stdin: n.single(0, conf{"prevResult": r})}).silent(t)
	n.forget()
	for _, name := range []string{"vmtap", "eth0"} {
		if h.link(name) == nil {
			t.Errorf("%s is gone", name)
		}
	}
}

// The delegate is called whatever there is, and what it says comes last.
func TestDelDelegates(t *testing.T) {
	h := newHost(t)
	h.fake("moody", `echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> /run/calls
case "$CNI_COMMAND" in
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.9/16"}]}' ;;
DEL) [ -e /run/well ] || { echo '{"cniVersion":"1.1.0","code":11,"msg":"not today","details":"it rains"}'; exit 1; } ;;
esac`)
	n := h.pair(conf{"ipam": conf{"type": "moody"}})
	v := h.vm("vm1")
	n.add(v)
	wantError(t, n.del(v), 11, "moody", "not today")
	if made := h.made(); len(made) > 0 {
		t.Errorf("DEL that failed left %v", made)
	}
	h.sh("touch /run/well")
	n.remove(v)
	n.remove(v)
	if got := h.sh("cat /run/calls"); got != "ADD vm1 eth0\nDEL vm1 eth0\nDEL vm1 eth0\nDEL vm1 eth0\n" {
		t.Errorf("delegate was called so:\n%s", got)
	}
}

// The bridge goes with the last guest.
func TestLastGuestTakesTheBridge(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	one, two := h.vm("vm1"), h.vm("vm2")
	n.add(one)
	n.add(two)
	n.remove(one)
	if h.link("br0") == nil {
		t.Fatal("bridge went with the first guest")
	}
	n.holds(two)
	n.remove(two)
	if h.link("br0") != nil {
		t.Error("bridge stayed")
	}
}

// The bridge that the guest was on goes with it, and gives its uplink back, whatever
// the configuration says by then.
func TestRemovalAfterTheBridgeChanged(t *testing.T) {
	for _, by := range []string{"DEL", "GC"} {
		t.Run(by, func(t *testing.T) {
			h := newHost(t)
			h.nic("eth1")
			n, v := h.uplinked(nil), h.vm("vm1")
			nic := h.snapshot("ip -d address show eth1")
			n.add(v)
			n.plugins[1] = n.plugins[1].with(conf{"bridge": "br1", "uplink": nil})
			if by == "DEL" {
				n.remove(v)
			} else {
				n.forget()
				if err := n.gc(); err != nil {
					t.Fatal(err)
				}
			}
			h.empty()
			nic.same(t)
		})
	}
}

// DEL goes by a configuration whose version nobody knows: one that was changed while
// guests run.
func TestRemovalOfAnUnknownVersion(t *testing.T) {
	for _, version := range []any{"1.2.0", "99", "", 7} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			h := newHost(t)
			n, v := h.pair(nil), h.vm("vm1")
			w := &walk{n: n, v: v}
			if a, ok := w.add(t); !ok {
				t.Fatal(a.stdout)
			}
			for i := range slices.Backward(n.plugins) {
				result := w.result
				result["cniVersion"] = version
				a := h.exec(call{plugin: n.plugins[i].plugin(), verb: "DEL", vm: v, stdin: n.single(i, conf{"cniVersion": version, "prevResult": result})})
				a.silent(t)
			}
			h.empty()
		})
	}
}
