package chain

import (
	"bytes"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// limitFrom needs a device for the frames from the guest, and none for those to it.
var limitFrom = conf{"egressRate": 10_000_000}

// shortened gives a script the names of what an ADD made.
func (h *host) shortened(v vm, r *types100.Result) *strings.Replacer {
	h.t.Helper()
	port := r.Interfaces[3].Name
	return strings.NewReplacer("PORT", port, "UPPER", "mvs-"+strings.TrimPrefix(port, "mvp-"), "TAP", v.tapOf(r),
		"INNER", h.innerEnd(), "NS ", "ip -n guests ", "TC ", "tc -n guests ")
}

// CHECK names what is no longer as ADD promised of the shortcut, and DEL cleans up
// all the same.
func TestShortcutCheckGoesRed(t *testing.T) {
	for _, test := range []struct {
		name   string
		change string
		words  []string
	}{
		{"upper device deleted", "ip link del UPPER", []string{"UPPER: link is none", "PORT: shortcut is none"}},
		{"upper device replaced", "ip link del UPPER; ip link add UPPER index 7777 type bridge; ip link set UPPER up alias microvm-cni:lab/vm1/eth0", []string{"UPPER: kind is bridge", "PORT: shortcut is none"}},
		{"upper device down", "ip link set UPPER down", []string{"UPPER: up is off"}},
		{"upper device renamed", "ip link set UPPER down; ip link set UPPER name other; ip link set other up", []string{"UPPER: link is none", "PORT: shortcut is none"}},
		{"upper device's alias", "ip link set UPPER alias ''", []string{"UPPER: alias is"}},
		{"upper device that hears all", "ip link set UPPER type macvlan mode bridge", []string{"UPPER: deaf is off"}},
		{"upper device that hears somebody", "ip link set UPPER type macvlan macaddr add 02:00:00:00:00:99", []string{"UPPER: deaf is off"}},
		{"IPv6 on the upper device", "sysctl -qw net.ipv6.conf.UPPER.disable_ipv6=0", []string{"UPPER: ipv6 is on"}},
		{"program at the port", "DETACH - PORT egress", []string{"PORT: shortcut is none"}},
		{"another in its place", "FORGE - PORT egress", []string{"PORT: shortcut is none"}},
		{"clsact of the port", "tc qdisc del dev PORT clsact", []string{"PORT: guard is off"}},
		{"tap's queue", "TC qdisc del dev TAP root", []string{"TAP", "unqueued is off"}},
		{"port deleted", "ip link del PORT", []string{"PORT: link is none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.away(nil)
			v := h.vm("vm1")
			names := h.shortened(v, n.add(v))
			n.holds(v)
			h.tamper(names.Replace(test.change))
			var words []string
			for _, w := range test.words {
				words = append(words, names.Replace(w))
			}
			wantError(t, n.check(v), 102, words...)
			n.remove(v)
			if strings.Contains(test.name, "replaced") || strings.Contains(test.name, "renamed") {
				h.sh(names.Replace("ip link del UPPER 2>/dev/null || ip link del other 2>/dev/null || true"))
			}
			h.empty()
		})
	}
}

// A limit of what the guest receives is at the port, so frames must not pass it by.
func TestShortcutAndLimits(t *testing.T) {
	for _, test := range []struct {
		name     string
		more     conf
		shortcut bool
	}{
		{"none", nil, true},
		{"from the guest", limitFrom, true},
		{"both ways", limitAll, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n, here := h.away(test.more), h.pair(nil)
			v, near := h.vm("vm1"), h.vm("near")
			v.ifname = "nic0"
			r := n.add(v)
			names := h.shortened(v, r)
			if got := h.link(names.Replace("UPPER")) != nil; got != test.shortcut {
				t.Errorf("an upper device is there: %v, want %v", got, test.shortcut)
			}
			a, b := h.plugIn(v, r), h.plugIn(near, here.add(near))
			if a.asks("10.1.0.2") == nil || b.asks("10.1.0.3") == nil {
				t.Error("the gateway does not answer")
			}
			sent := strings.TrimSpace(h.sh(names.Replace("cat /sys/class/net/PORT/statistics/tx_packets")))
			if (sent == "0") != test.shortcut {
				t.Errorf("%s frames to the guest took the pair", sent)
			}
			n.holds(v)
			n.remove(v)
			here.remove(near)
			h.empty()
		})
	}
}

// GC finds an upper device whose port is gone, and spares that of a valid guest.
func TestShortcutGC(t *testing.T) {
	h := newQuietHost(t)
	n := h.away(nil)
	stale, alive := h.vm("stale"), h.vm("alive")
	stale.ifname, alive.ifname = "nic1", "nic2"
	port := n.add(stale).Interfaces[3].Name
	n.forget()
	n.add(alive)
	h.sh("ip link del " + port)
	if err := n.gc(alive); err != nil {
		t.Fatal(err)
	}
	if l := h.link("mvs-" + strings.TrimPrefix(port, "mvp-")); l != nil {
		t.Errorf("GC left %s", l.Name)
	}
	n.holds(alive)
	n.remove(alive)
	n.remove(stale)
}

// A device of somebody else with the upper device's name is refused, and stays.
func TestShortcutNameTaken(t *testing.T) {
	h := newHost(t)
	n := h.away(nil)
	v := h.vm("vm1")
	names := h.shortened(v, n.add(v))
	n.remove(v)
	h.sh(names.Replace("ip tuntap add UPPER mode tap"))
	_, err := n.tryAdd(v)
	wantError(t, err, 101, names.Replace("UPPER"), "exists already")
	n.remove(v)
	if h.link(names.Replace("UPPER")) == nil {
		t.Error("somebody else's device is gone")
	}
	h.sh(names.Replace("ip link del UPPER"))
	h.empty()
}

func TestShortcutKilled(t *testing.T) {
	for _, verb := range []string{"ADD", "DEL", "GC"} {
		t.Run(verb, func(t *testing.T) {
			h := newHost(t)
			(&walk{n: h.away(nil), v: h.vm("vm1"), away: true, plugin: "microvm-bridge", verb: verb}).kills(t, 4)
		})
	}
}

// The guard works beside the shortcut: of a guest that lies about itself nothing
// arrives, whichever of the two has the tap elsewhere.
func TestShortcutGuard(t *testing.T) {
	h := newHost(t)
	n, here := h.away(limitFrom), h.pair(nil)
	far, near := h.vm("far"), h.vm("near")
	far.ifname = "nic0"
	a, b := h.plugIn(far, n.add(far)), h.plugIn(near, here.add(near))
	if a.asks("10.1.0.2") == nil || b.asks("10.1.0.3") == nil { // the ports are ready by then
		t.Fatal("the gateway does not answer")
	}
	for _, way := range []struct {
		from, to *vmmSide
		own, its string
	}{{a, b, "10.1.0.2", "10.1.0.3"}, {b, a, "10.1.0.3", "10.1.0.2"}} {
		lie := frame(way.to.mac, way.from.mac, 0x0800, udp("10.1.0.9", way.its))
		truth := frame(way.to.mac, way.from.mac, 0x0800, udp(way.own, way.its))
		way.from.send(lie)
		way.from.send(truth)
		got := way.to.receive(5*time.Second, func(f []byte) bool { return bytes.Equal(f, lie) || bytes.Equal(f, truth) })
		if !bytes.Equal(got, truth) {
			t.Errorf("from %s arrived %x, want %x", way.from.mac, got, truth)
		}
	}
	n.holds(far)
	n.remove(far)
	here.remove(near)
	h.empty()
}
