package chain

import (
	"slices"
	"strings"
	"testing"
)

// side is a second network beside the usual one, on the same bridge or not.
func (h *host) side(bridge string) *network {
	subnet := "10.2.0.0/16"
	more := conf{"bridge": bridge, "ipam": conf{"type": "host-local", "ranges": ranges(subnet)}}
	if bridge == "br0" {
		more["isGateway"] = nil // the bridge has one gateway
	}
	return h.network("side", newest, tap, gateway.with(more))
}

// GC removes what nobody remembers, on its own network, and nothing else.
func TestGC(t *testing.T) {
	for _, bridge := range []string{"br0", "br1"} {
		t.Run("neighbour on "+bridge, func(t *testing.T) {
			h := newHost(t)
			lab, side := h.pair(nil), h.side(bridge)
			stale, alive := h.vm("stale"), h.vm("alive")
			second := stale
			second.ifname = "eth1"
			lab.add(stale)
			lab.add(second)
			lab.forget()
			lab.add(alive)
			side.add(stale)

			if err := lab.gc(alive); err != nil {
				t.Fatal(err)
			}
			for _, l := range h.links() {
				if strings.HasPrefix(l.Alias, "microvm-cni:lab/stale/") {
					t.Errorf("GC left %s", l.Alias)
				}
			}
			if got := h.leases("lab"); !slices.Equal(got, []string{"10.1.0.4"}) {
				t.Errorf("leases are %v", got)
			}
			if got := h.leases("side"); !slices.Equal(got, []string{"10.2.0.2"}) && !slices.Equal(got, []string{"10.2.0.1"}) {
				t.Errorf("leases of the other network are %v", got)
			}
			lab.holds(alive)
			side.holds(stale)
			if err := lab.gc(); err != nil {
				t.Fatal(err)
			}
			if err := side.gc(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A valid attachment is as whole after GC as before.
func TestGCKeepsTheValid(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	alive, stale := h.vm("alive"), h.vm("stale")
	n.add(alive)
	n.add(stale)
	if err := n.gc(alive); err != nil {
		t.Fatal(err)
	}
	n.holds(alive)
	n.remove(alive)
}

// What GC makes of the runtime's list, by the bare protocol.
func TestGCList(t *testing.T) {
	const key = "cni.dev/valid-attachments"
	for _, test := range []struct {
		name string
		more conf
		code uint // 0: all is removed
	}{
		{"null", conf{key: raw("null")}, 0},
		{"empty", conf{key: []conf{}}, 0},
		{"others", conf{key: []conf{{"containerID": "vm2", "ifname": "eth0"}, {"containerID": "vm1", "ifname": "eth1"}}}, 0},
		{"missing", nil, 7},
		{"only the name that the specification had by mistake", conf{"cni.dev/attachments": []conf{}}, 7},
		{"no list", conf{key: "vm1"}, 6},
		{"no objects", conf{key: []string{"vm1"}}, 6},
		{"null in it", conf{key: raw("[null]")}, 6},
		{"no interface name", conf{key: []conf{{"containerID": "vm2"}}}, 7},
		{"no container ID", conf{key: []conf{{"ifname": "eth0"}}}, 7},
		{"numbers", conf{key: []conf{{"containerID": 1, "ifname": "eth0"}}}, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.pair(nil)
			v := h.vm("vm1")
			n.add(v)
			for i, p := range n.plugins {
				a := h.exec(call{plugin: p.plugin(), verb: "GC", stdin: n.single(i, test.more)})
				if test.code == 0 {
					a.silent(t)
				} else {
					a.refused(t, newest, test.code, key)
				}
			}
			if test.code == 0 {
				h.empty()
				return
			}
			n.holds(v)
			n.remove(v)
		})
	}
}

// A tap without a bridge plugin after it, and one that the bridge plugin never
// came to, are GC's too.
func TestGCOfLoneTaps(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	alone := h.network("lab", newest, tap)
	alone.add(h.vm("vm1"))
	alone.add(h.vm("vm2"))
	n.forget()
	if err := n.gc(); err != nil {
		t.Fatal(err)
	}
}

// A tap that somebody else made is let go by GC, not deleted. It does not tell
// whose it is, so that its lease is left to DEL.
func TestGCOfForeignTap(t *testing.T) {
	h := newHost(t)
	n := h.foreign("tap0")
	v := h.vm("vm1")
	n.add(v)
	n.forget()
	if err := n.gc(); err != nil {
		t.Fatal(err)
	}
	if made := h.made(); len(made) != 0 {
		t.Errorf("GC left %v", made)
	}
	n.remove(v)
	if h.link("tap0") == nil {
		t.Error("GC deleted a tap that is not ours")
	}
}

// GC finds taps whose marks somebody took off, as long as one is left.
func TestGCWithoutMarks(t *testing.T) {
	for _, test := range []struct{ name, change string }{
		{"alias", "ip link set TAP alias ''"},
		{"handle", "ip link property del dev TAP altname $(ip -d link show TAP | grep -o 'microvm-tap[.].*')"},
		{"port's handle", "ip link property del dev TAP altname $(ip -d link show TAP | grep -o 'microvm-bridge[.].*')"},
		{"name", "ip link set TAP down && ip link set TAP name other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", newest, tap, plain)
			v := h.vm("vm1")
			h.sh(strings.ReplaceAll(test.change, "TAP", v.tapOf(n.add(v))))
			n.forget()
			if err := n.gc(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Whose address it was is told by the alias. GC says when it could not free one.
func TestGCTellsOfWhatItCannotFree(t *testing.T) {
	h := newHost(t)
	n, v := h.pair(nil), h.vm("vm1")
	name := v.tapOf(n.add(v))
	h.sh("ip link set " + name + " alias ''")
	a := h.exec(call{plugin: "microvm-bridge", verb: "GC", stdin: n.single(1, conf{"cni.dev/valid-attachments": []any{}})})
	if a.exit != 0 || !strings.Contains(a.stderr, name+" does not tell any more for whom it was made") || !strings.Contains(a.stderr, "host-local") {
		t.Errorf("exit %d, %q", a.exit, a.stderr)
	}
	if len(h.leases("lab")) != 1 {
		t.Errorf("leases are %v", h.leases("lab"))
	}
	n.remove(v)
	if leases := h.leases("lab"); len(leases) != 0 {
		t.Errorf("after DEL leases are %v", leases)
	}
}

// GC goes on after an error and reports it, and what failed is tried again.
func TestGCGoesOn(t *testing.T) {
	h := newHost(t)
	h.fake("moody", `case "$CNI_COMMAND" in
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.'${CNI_CONTAINERID#vm}'/16"}]}' ;;
DEL) [ -e /run/well ] || [ $CNI_CONTAINERID != vm1 ] || { echo '{"cniVersion":"1.1.0","code":11,"msg":"not today"}'; exit 1; } ;;
GC) echo gc >> /run/calls ;;
esac`)
	n := h.pair(conf{"ipam": conf{"type": "moody"}, "isGateway": nil})
	for _, id := range []string{"vm1", "vm2", "vm3"} {
		n.add(h.vm(id))
	}
	n.forget()
	err := n.gc()
	wantError(t, err, 11, "moody", "not today")
	if made := h.made(); len(made) != 1 {
		t.Errorf("left are %v, want the tap of vm1", made)
	}
	for _, l := range h.links() {
		if l.Info.Data.Type == "tap" && (l.Master != "" || l.up()) {
			t.Errorf("tap whose address may be given out again is still on %s", l.Master)
		}
	}
	h.sh("touch /run/well")
	if err := n.gc(); err != nil {
		t.Fatal(err)
	}
	if calls := h.sh("cat /run/calls"); calls != "gc\ngc\n" {
		t.Errorf("GC was delegated so: %q", calls)
	}
}

// What is left of an attachment that lost its tap tells of its lease, too.
func TestGCOfDevicesWithoutTap(t *testing.T) {
	h := newHost(t)
	n, v := h.pair(limitAll), h.vm("vm1")
	n.add(v)
	n.forget()
	h.sh("ip link del $(ls /sys/class/net | grep ^mvt-)")
	if len(h.devices()) == 0 || len(h.leases("lab")) == 0 {
		t.Fatalf("there is nothing left: %v, %v", h.devices(), h.leases("lab"))
	}
	if err := n.gc(); err != nil {
		t.Fatal(err)
	}
	h.empty()
	if leases := h.leases("lab"); len(leases) > 0 {
		t.Errorf("leases are %v", leases)
	}
}
