package chain

import (
	"slices"
	"strings"
	"testing"
)

// DEL leaves nothing on the host, whatever the runtime still knows. What it cannot
// reach, in the VMM's namespace, goes with that.
func TestNetnsDelLeavesNothing(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(n *network, v *vm)
		left  bool // the tap, in the VMM's namespace
	}{
		{"as ADD was called", func(*network, *vm) {}, false},
		{"empty netns", func(_ *network, v *vm) { v.netns = "" }, true},
		{"vanished netns", func(n *network, _ *vm) { n.h.DeleteNetns("guests"); n.h.NewNetns("guests") }, false},
		{"no netns any more", func(n *network, v *vm) { v.netns = "/run/netns/none" }, true},
		{"a path that leads nowhere", func(n *network, v *vm) { v.netns = "/etc/passwd/x" }, true},
		{"another netns", func(n *network, v *vm) { v.netns = n.h.NewNetns("reused") }, true},
		{"no prevResult", func(n *network, _ *vm) { n.forget() }, false},
		{"neither netns nor prevResult", func(n *network, v *vm) { n.forget(); v.netns = "" }, true},
		{"another chain order", func(n *network, _ *vm) { n.plugins = []conf{gateway, awayTap} }, false},
		{"another placement", func(n *network, _ *vm) { n.plugins[0] = tap; n.forget() }, false},
		{"port's handle gone", func(n *network, _ *vm) {
			n.h.sh("p=$(ip -o link show master br0 | grep -o 'mvp-[a-z0-9]*' | head -1); ip link property del dev $p altname $(ip -d link show $p | grep -o 'microvm-bridge[.].*')")
		}, false},
		{"tap renamed", func(n *network, _ *vm) { n.h.sh("ip -n guests link set eth0 down; ip -n guests link set eth0 name other") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.away(conf{"ipMasq": true})
			v := h.vm("vm1")
			n.add(v)
			test.spoil(n, &v)
			n.remove(v)
			if left := h.inside(); (len(left) > 0) != test.left {
				t.Errorf("links left in the VMM's namespace: %d", len(left))
			}
			n.remove(v)
			v.netns = h.guests
			n.plugins[0] = awayTap
			n.remove(v)
			h.empty()
			h.unmasked()
		})
	}
}

// A path that is somebody else's namespace by now loses nothing there.
func TestNetnsDelSparesOthers(t *testing.T) {
	h := newHost(t)
	n := h.away(nil)
	one, two := h.vm("vm1"), h.vm("vm2")
	n.add(one)
	h.DeleteNetns("guests")
	h.NewNetns("guests")
	n.add(two) // a tap of the same name, in the namespace of that path
	n.remove(one)
	n.holds(two)
	n.remove(two)
	h.sh("ip -n guests tuntap add eth0 mode tap")
	n.remove(two)
	if left := h.inside(); len(left) != 1 {
		t.Errorf("%d links left, want somebody else's tap", len(left))
	}
	h.sh("ip -n guests link del eth0")
}

// GC removes what nobody remembers, with its lease, whether its namespace is there
// or not, and nothing else.
func TestNetnsGC(t *testing.T) {
	for _, gone := range []bool{false, true} {
		h := newQuietHost(t)
		lab, side := h.away(nil), h.side("br0")
		stale, alive, third := h.vm("stale"), h.vm("alive"), h.vm("third")
		stale.ifname, alive.ifname = "nic1", "nic2"
		lab.add(stale)
		lab.forget()
		lab.add(alive)
		side.add(third)
		if gone {
			h.DeleteNetns("guests")
			h.NewNetns("guests")
			if !eventually(func() bool { return !strings.Contains(h.sh("ip link"), "mvp-") }) {
				t.Error("a port outlived its namespace")
			}
		}
		if err := lab.gc(alive); err != nil {
			t.Fatal(err)
		}
		for _, l := range h.links() {
			if strings.HasPrefix(l.Alias, "microvm-cni:lab/stale/") {
				t.Errorf("GC left %s", l.Alias)
			}
		}
		if !gone {
			if got := h.leases("lab"); !slices.Equal(got, []string{"10.1.0.3"}) {
				t.Errorf("leases are %v", got)
			}
			lab.holds(alive)
		}
		side.holds(third)
		if err := lab.gc(); err != nil {
			t.Fatal(err)
		}
		side.remove(third)
		if gone { // a lease that nothing on the host tells of is freed by DEL
			lab.remove(stale)
		}
		h.sh("ip -n guests link del nic1 2>/dev/null || true")
	}
}

// A namespace that vanishes at any point leaves nothing on the host.
func TestNetnsVanishes(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(h *host, n *network, v vm)
	}{
		{"before ADD", func(h *host, n *network, v vm) {
			h.DeleteNetns("guests")
			_, err := n.tryAdd(v)
			wantError(h.t, err, 4, v.netns)
		}},
		{"between the plugins", func(h *host, n *network, v vm) {
			first := h.exec(call{plugin: "microvm-tap", verb: "ADD", vm: v, stdin: n.single(0, nil)}).ok(h.t).object(h.t)
			h.DeleteNetns("guests")
			h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(1, conf{"prevResult": first})}).refused(h.t, newest, 4, v.netns)
		}},
		{"between the plugins, and another is in its place", func(h *host, n *network, v vm) {
			first := h.exec(call{plugin: "microvm-tap", verb: "ADD", vm: v, stdin: n.single(0, nil)}).ok(h.t).object(h.t)
			h.DeleteNetns("guests")
			h.NewNetns("guests")
			h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(1, conf{"prevResult": first})}).refused(h.t, newest, 7, "no tap")
			h.DeleteNetns("guests")
		}},
		{"while IPAM is asked", func(h *host, n *network, v vm) {
			h.fake("slow", `case "$CNI_COMMAND" in ADD) umount -l /run/netns/guests; rm /run/netns/guests; echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.9/16"}]}' ;; esac`)
			n.plugins[1] = n.plugins[1].with(conf{"ipam": conf{"type": "slow"}})
			_, _ = n.tryAdd(v) // the plugin has it open: either way will do
		}},
		{"before CHECK", func(h *host, n *network, v vm) {
			n.add(v)
			h.DeleteNetns("guests")
			wantError(h.t, n.check(v), 102, v.netns)
		}},
		{"before DEL", func(h *host, n *network, v vm) {
			n.add(v)
			h.DeleteNetns("guests")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.away(nil)
			v := h.vm("vm1")
			test.run(h, n, v)
			n.remove(v)
			h.NewNetns("guests")
			h.empty()
		})
	}
}

// What a killed, or a failing, plugin leaves is removed by the next DEL or GC.
func TestNetnsKilled(t *testing.T) {
	for _, plugin := range []string{"microvm-tap", "microvm-bridge"} {
		for _, verb := range []string{"ADD", "DEL", "GC"} {
			t.Run(plugin+" "+verb, func(t *testing.T) {
				h := newHost(t)
				(&walk{n: h.away(nil), v: h.vm("vm1"), away: true, plugin: plugin, verb: verb}).kills(t, 3)
			})
		}
	}
}

func TestNetnsFailingSystemCalls(t *testing.T) { failingSystemCalls(t, true) }
