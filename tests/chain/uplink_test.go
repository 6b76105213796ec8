package chain

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// nic makes a NIC that leads to a LAN: a network namespace of its name, with
// the other end of the cable as its eth0. The NIC is down.
func (h *host) nic(name string, options ...string) {
	h.t.Helper()
	h.NewNetns(name)
	h.sh("ip link add " + name + " " + strings.Join(options, " ") + " type veth peer name eth0 netns " + name + " && ip -n " + name + " link set eth0 mtu 9000 up")
	h.mine = append(h.mine, name)
}

// uplinked is the usual network, with an uplink.
func (h *host) uplinked(more conf) *network {
	keys := conf{"uplink": "eth1"}
	maps.Copy(keys, more)
	return h.pair(keys)
}

// The NIC is a port from the first guest to the last, and then as it was.
func TestUplinkComesAndGoes(t *testing.T) {
	for _, test := range []struct{ name, nic, bridge string }{
		{"down", "", ""},
		{"up", "ip link set eth1 up", ""},
		{"with a link-local address", "ip link set eth1 up && ip address add fe80::7/64 dev eth1 nodad", ""},
		{"on a bridge that was there", "", "ip link set eth1 down"},
		{"with longer frames", "ip link set eth1 mtu 9000", ""},
		{"with shorter frames than another bridge", "ip link set eth1 mtu 1450", "ip link set br0 mtu 1400"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.nic("eth1")
			h.sh(test.nic)
			if test.bridge != "" {
				h.bridge("br0", "") // whose MAC address and MTU would be its ports'
				h.sh(test.bridge)
			}
			before := h.snapshot("ip -d address show eth1; ip route show dev eth1")
			found := h.link("br0")
			n := h.uplinked(nil)
			if err := n.status(); err != nil {
				t.Errorf("STATUS: %v", err)
			}
			one, two := h.vm("vm1"), h.vm("vm2")
			n.add(one)
			first := h.link("br0")
			n.add(two)
			n.remove(one)
			n.holds(two)
			nic, bridge := h.link("eth1"), h.link("br0")
			if nic.Master != "br0" || !nic.up() {
				t.Errorf("NIC is %+v", nic)
			}
			if nic.MAC == bridge.MAC || bridge.MAC != first.MAC || bridge.MTU != first.MTU {
				t.Errorf("bridge went from %+v to %+v", first, bridge)
			}
			if found != nil && (bridge.MTU != found.MTU || bridge.MAC != found.MAC) {
				t.Errorf("the bridge that was there went from %+v to %+v", found, bridge)
			}
			n.remove(two)
			h.empty()
			before.same(t)
			n.remove(two)
		})
	}
}

// An uplink that cannot be one is refused before anything is made.
func TestUplinkRefused(t *testing.T) {
	for _, test := range []struct {
		name, script string
		more         conf
		words        []string
	}{
		{"another name", "ip link property add dev eth1 altname lan-port", conf{"uplink": "lan-port"}, []string{"lan-port is another name of eth1"}},
		{"missing", "", conf{"uplink": "eth7"}, []string{"eth7", "does not exist"}},
		{"IPv4 address", "ip address add 192.0.2.1/24 dev eth1", nil, []string{"eth1", "192.0.2.1/24"}},
		{"IPv4 link-local address", "ip address add 169.254.7.7/16 dev eth1", nil, []string{"eth1", "169.254.7.7/16"}},
		{"IPv6 address", "ip link set eth1 up; ip address add 2001:db8::1/64 dev eth1 nodad", nil, []string{"eth1", "2001:db8::1/64"}},
		{"IPv4 route", "ip link set eth1 up; ip route add 198.51.100.0/24 dev eth1", nil, []string{"eth1", "198.51.100.0/24"}},
		{"route of another table", "ip link set eth1 up; ip route add default dev eth1 table 77", nil, []string{"eth1", "0.0.0.0/0"}},
		{"one of two ways", "ip link set eth1 up; ip link add eth2 type veth peer name eth3; ip link set eth2 up; ip route add 198.51.100.0/24 nexthop dev eth2 nexthop dev eth1", nil, []string{"eth1", "198.51.100.0/24"}},
		{"IPv6 route", "ip link set eth1 up; ip route add 2001:db8::/48 dev eth1", nil, []string{"eth1", "2001:db8::/48"}},
		{"IPv6 default route", "ip link set eth1 up; ip route add default via fe80::1 dev eth1", nil, []string{"eth1", "::/0"}},
		{"bridge", "ip link add br7 type bridge", conf{"uplink": "br7"}, []string{"br7", "is a bridge"}},
		{"port of another bridge", "ip link add br7 type bridge; ip link set eth1 master br7", nil, []string{"eth1", "port of br7"}},
		{"loopback", "", conf{"uplink": "lo"}, []string{"lo", "no Ethernet"}},
		{"tunnel", "ip tuntap add tun7 mode tun", conf{"uplink": "tun7"}, []string{"tun7", "no Ethernet"}},
		{"shorter frames", "ip link set eth1 mtu 1400", nil, []string{"eth1", "1400", "1500"}},
		{"shorter frames than a bridge that was there", "ip link add br0 mtu 4000 type bridge; ip link set br0 mtu 4001", nil, []string{"eth1", "1500", "4001"}},
		{"shorter frames than mtu says", "", conf{"mtu": 1600}, []string{"eth1", "1500", "1600"}},
		{"existing bridge that lacks it", "ip link add br0 type bridge; ip link set br0 up", conf{"bridgeMode": "existing", "isGateway": nil}, []string{"eth1", "not a port of bridge br0"}},
		{"existing bridge, down", "ip link add br0 type bridge; ip link set br0 up; ip link set eth1 master br0", conf{"bridgeMode": "existing", "isGateway": nil}, []string{"eth1", "is down"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.nic("eth1")
			h.sh(test.script)
			n, v := h.uplinked(test.more), h.vm("vm1")
			before := h.snapshot("ip -d address show; ip route")
			nic := h.snapshot("ip -d address show eth1")
			wantError(t, n.status(), 50, test.words...)
			_, err := n.tryAdd(v)
			wantError(t, err, 7, test.words...)
			if leases := h.leases("lab"); len(leases) > 0 {
				t.Errorf("leases are %v", leases)
			}
			nic.same(t)
			n.remove(v)
			before.same(t)
			h.sh("for l in eth2 br7 tun7 br0; do ip link del $l 2>/dev/null || true; done; ip link set eth1 nomaster; ip link property del dev eth1 altname lan-port 2>/dev/null || true")
		})
	}
}

// Taps of guests are no uplinks: neither this guest's nor another's.
func TestUplinkIsNoTap(t *testing.T) {
	h := newHost(t)
	one, two := h.vm("vm1"), h.vm("vm2")
	one.args = "TAP_NAME=tap1"
	plain := h.pair(nil)
	plain.add(one)
	n := h.uplinked(conf{"uplink": "tap1"})
	_, err := n.tryAdd(two)
	wantError(t, err, 7, "tap1", "tap of a guest")
	n.remove(two)
	plain.remove(one)
	_, err = n.tryAdd(one)
	wantError(t, err, 7, "tap1", "tap of this guest")
	n.remove(one)

	foreign := h.foreign("tap7")
	foreign.plugins[len(foreign.plugins)-1] = foreign.plugins[len(foreign.plugins)-1].with(conf{"uplink": "tap7"})
	_, err = foreign.tryAdd(two)
	wantError(t, err, 7, "tap7", "tap of this guest")
}

// A NIC that somebody else made a port stays one, whatever it carries.
func TestUplinkOfSomebodyElse(t *testing.T) {
	for _, mode := range []string{"create", "existing"} {
		t.Run(mode, func(t *testing.T) {
			h := newHost(t)
			h.nic("eth1")
			h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
			h.sh("ip link set eth1 master br0 up; ip address add 192.0.2.1/24 dev eth1")
			before := h.snapshot("ip -d address show eth1; ip route show dev eth1")
			n, v := h.uplinked(conf{"bridgeMode": mode, "isGateway": nil}), h.vm("vm1")
			n.add(v)
			n.holds(v)
			before.same(t)
			h.sh("ip link set eth1 nomaster")
			wantError(t, n.check(v), 102, "eth1", "master is none, expected br0")
			h.sh("ip link set eth1 master br0")
			n.remove(v)
			before.same(t)
			h.sh("ip link set eth1 nomaster")
		})
	}
}

// CHECK misses an uplink that somebody took away, the next ADD repairs it, and
// one that is not there any more keeps nothing from being removed.
func TestUplinkUndoneByHand(t *testing.T) {
	for _, test := range []struct {
		script, word string
		repaired     bool
	}{
		{"ip link set eth1 nomaster", "master is none, expected br0", true},
		{"ip link set eth1 down", "up is off, expected on", true},
		{"ip link del eth1", "link is none, expected a NIC", false},
		{"ip link add br7 type bridge; ip link set eth1 master br7", "master is br7, expected br0", false},
		{"ip link del br0", "link is none, expected a bridge", true},
	} {
		t.Run(test.script, func(t *testing.T) {
			h := newHost(t)
			h.nic("eth1")
			n, one, two := h.uplinked(nil), h.vm("vm1"), h.vm("vm2")
			n.add(one)
			n.holds(one)
			h.sh(test.script)
			wantError(t, n.check(one), 102, test.word)
			if _, err := n.tryAdd(two); (err == nil) != test.repaired {
				t.Errorf("next ADD: %v", err)
			}
			if test.repaired {
				n.holds(two)
			}
			n.remove(one)
			n.remove(two)
			h.sh("ip link del br7 2>/dev/null || true")
			h.empty()
			if nic := h.link("eth1"); nic != nil && nic.up() && test.repaired {
				t.Error("NIC was down and is up")
			}
		})
	}
}

// Networks of one bridge share its uplink; the last guest gives it back, also
// on a network that does not speak of it.
func TestUplinkOfTwoNetworks(t *testing.T) {
	h := newHost(t)
	h.nic("eth1")
	h.nic("eth2")
	lab, side := h.uplinked(nil), h.side("br0")
	other := h.network("other", newest, tap, plain.with(conf{"uplink": "eth2"}))
	joined := h.network("joined", newest, tap, plain.with(conf{"bridgeMode": "existing", "uplink": "eth1"}))
	v := h.vm("vm1")
	lab.add(v)
	_, err := other.tryAdd(v)
	wantError(t, err, 7, "eth2", "br0 has eth1")
	other.remove(v)
	side.add(v)
	joined.add(v)
	lab.remove(v)
	side.holds(v)
	side.remove(v)
	joined.holds(v)
	joined.remove(v)
	if nic := h.link("eth1"); nic.Master != "" || len(nic.AltNames) > 0 || nic.up() {
		t.Errorf("NIC is %+v", nic)
	}
	if err := lab.gc(); err != nil { // the bridge is of a network that makes bridges
		t.Error(err)
	}
}

// An ADD that fails after the NIC was made a port gives it back, unless another
// guest relies on it.
func TestUplinkRollback(t *testing.T) {
	for _, mac := range []string{"NIC", "bridge"} {
		t.Run("MAC of the "+mac, func(t *testing.T) {
			h := newHost(t)
			h.nic("eth1", "address 02:aa:aa:aa:aa:ab")
			h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
			before, nic := h.snapshot("ip address show br0"), h.snapshot("ip -d address show eth1")
			n, one, two := h.uplinked(nil), h.vm("vm1"), h.vm("vm2")
			one.args = "MAC=" + map[string]string{"NIC": h.link("eth1").MAC, "bridge": "02:aa:aa:aa:aa:aa"}[mac]
			_, err := n.tryAdd(one)
			wantError(t, err, 7, "MAC address", "is taken on bridge br0")
			if tells := strings.Contains(fmt.Sprint(err), "bridge fdb del "+one.args[4:]+" dev br0 self"); tells != (mac == "bridge") {
				t.Error(err)
			}
			before.same(t)
			nic.same(t)
			n.remove(one)
			n.add(two)
			_, err = n.tryAdd(one)
			wantError(t, err, 7, "is taken on bridge br0")
			n.remove(one)
			n.holds(two)
			n.remove(two)
			nic.same(t)
		})
	}
}

// What the bridge learned of a guest on its uplink, where it was a moment ago,
// is no reason to refuse it, and frames go both ways.
func TestUplinkCarriesFrames(t *testing.T) {
	h := newHost(t)
	h.nic("eth1", "mtu 9000")
	n, one, two := h.uplinked(both), h.vm("vm1"), h.vm("vm2")
	r := n.add(one)
	h.sh(`mac=02:00:00:00:00:77
ip -n eth1 link set eth0 down address $mac mtu 1500 up
ip -n eth1 address add 10.1.7.7/16 dev eth0
ip -n eth1 address add fd00:1::77/64 dev eth0 nodad`)
	for from, gateway := range map[string]string{"10.1.7.7": "10.1.0.1", "fd00:1::77": "fd00:1::1"} {
		h.send("eth1", from, gateway)
		if !eventually(func() bool {
			return strings.Contains(h.sh("ip -n eth1 neigh show "+gateway), h.link("br0").MAC)
		}) {
			t.Errorf("%s does not find %s:\n%s", from, gateway, h.sh("ip -n eth1 neigh"))
		}
	}
	if fdb := h.sh("bridge fdb show br br0"); !strings.Contains(fdb, "02:00:00:00:00:77 dev eth1") {
		t.Errorf("nothing was learned on the uplink:\n%s", fdb)
	}
	// Broadcasts both ways.
	g := (&attached{t: t, h: h, r: r, tap: one.tapOf(r)}).boot()
	if own := netip.MustParsePrefix(r.IPs[0].Address.String()).Addr(); !eventually(func() bool { return g.asks(own, netip.MustParseAddr("10.1.7.7")) }) {
		t.Error("the LAN does not hear the guest")
	}
	if !g.awaits(func(f []byte) bool {
		return len(f) > 42 && f[12] == 8 && f[13] == 0 && bytes.Equal(f[30:34], []byte{10, 1, 255, 255})
	},
		func() { h.send("eth1", "10.1.7.7", "10.1.255.255") }) {
		t.Error("the guest does not hear the LAN")
	}
	two.args = "MAC=02:00:00:00:00:77"
	n.add(two)
	n.holds(one)
	n.holds(two)
	n.remove(one)
	n.remove(two)
}

// GC takes an uplink back that nobody remembers.
func TestUplinkGC(t *testing.T) {
	h := newHost(t)
	h.nic("eth1")
	n, one, two := h.uplinked(nil), h.vm("vm1"), h.vm("vm2")
	n.add(one)
	n.add(two)
	if err := n.gc(one); err != nil {
		t.Error(err)
	}
	n.holds(one)
	n.forget()
	if err := n.gc(); err != nil {
		t.Error(err)
	}
	h.empty()
	if h.link("eth1").up() {
		t.Error("NIC was down and is up")
	}
}

// A plugin that is killed while it lends a NIC, or takes it back.
func TestKilledWithUplink(t *testing.T) {
	for _, bridge := range []string{"new", "there"} {
		for _, verb := range []string{"ADD", "DEL", "GC"} {
			t.Run(fmt.Sprintf("bridge %s %s", bridge, verb), func(t *testing.T) {
				h := newHost(t)
				h.nic("eth1")
				if bridge == "there" {
					h.bridge("br0", "")
				}
				(&walk{n: h.uplinked(conf{"isGateway": nil, "ipam": nil}), v: h.vm("vm1"), plugin: "microvm-bridge", verb: verb}).kills(t, 3)
			})
		}
	}
}

// released fails the test if a link that the test made is not as before.
func (w *walk) released(t *testing.T, after string) {
	t.Helper()
	for _, l := range w.n.h.links() {
		if slices.Contains(w.n.h.mine, l.Name) && (l.Master != "" || len(l.AltNames) > 0 || l.Name == "eth1" && l.up()) {
			t.Errorf("%s: %s is a port of %q, has the names %v, is up: %v", after, l.Name, l.Master, l.AltNames, l.up())
			w.n.h.sh("ip link set " + l.Name + " nomaster down")
			for _, name := range l.AltNames {
				w.n.h.sh("ip link property del dev " + l.Name + " altname " + name)
			}
		}
	}
}
