package chain

import (
	"strings"
	"testing"
)

// limit10 is 10 Mbit/s in both directions.
var limit10 = conf{"ingressRate": 10_000_000, "egressRate": 10_000_000}

// limitAll needs every device and filter that there is.
var limitAll = limit10.with(conf{"unshapedSubnets": []string{"10.0.0.0/8", "fd00::/8"}})

// trips are frames from a guest to its peer and back.
var trips = []struct{ name, guest, peer string }{
	{"IPv4", "10.1.0.2", "192.0.2.7"},
	{"IPv6", "fd00:1::2", "2001:db8::7"},
}

// devices are the ifb devices on the host, all of which the plugins made.
func (h *host) devices() []string {
	h.t.Helper()
	return strings.Fields(h.sh("ip -o link show type ifb | cut -d: -f2"))
}

// traffic is what tc shows of a device, without the kernel's own disciplines, which
// it has once it was up.
func (h *host) traffic(name string) string {
	h.t.Helper()
	return h.sh("tc qdisc show dev " + name + " | grep -v ' 0: root' || true; for hook in ingress egress; do tc filter show dev " + name + " $hook; done")
}

// A guest gets its rate in both directions, and others on the bridge get all.
func TestBandwidthRates(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, plain.with(unguarded).with(conf{"capabilities": conf{"bandwidth": true}}))
	one, two := h.vm("vm1"), h.vm("vm2")
	one.capabilities = map[string]any{"bandwidth": map[string]any(limit10)}
	limited, free := h.plug(one.tapOf(n.add(one))), h.plug(two.tapOf(n.add(two)))
	peer, pull := h.peer()
	n.holds(one)
	n.holds(two)
	for _, f := range trips {
		out, in := datagram(f.guest, f.peer, 1400), datagram(f.peer, f.guest, 1400)
		for direction, got := range map[string]float64{"from": rate(limited, peer, out), "to": rate(peer, limited, in)} {
			if got < 2 || got > 12 {
				t.Errorf("%s %s the guest: %.1f Mbit/s, the limit is 10", f.name, direction, got)
			}
		}
		for direction, got := range map[string]int{"from": freely(free, peer, out), "to": freely(peer, free, in)} {
			if got != 100 {
				t.Errorf("%s %s the guest without a limit: %d of 100 frames arrived", f.name, direction, got)
			}
		}
	}
	pull()
	n.remove(two)
	n.holds(one)
	n.remove(one)
}

// As much as the burst passes at once, and the queue's part of the rest; which
// frames are limited, the lists of subnets say.
func TestBandwidthBurstAndSubnets(t *testing.T) {
	slow := conf{"ingressRate": 100_000, "ingressBurst": 80_000, "egressRate": 100_000, "egressBurst": 80_000}
	lists := []string{"192.0.2.0/24", "2001:db8::/32"}
	beyond := map[string]string{"IPv4": "198.51.100.7", "IPv6": "2001:db9::7"}
	for _, test := range []struct {
		name            string
		more            conf
		inside, outside bool // limited, inside and outside of the lists
		devices         int
	}{
		{"all", nil, true, true, 1},
		{"shaped", conf{"shapedSubnets": lists}, true, false, 2},
		{"unshaped", conf{"unshapedSubnets": lists}, false, true, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", newest, tap, plain.with(unguarded).with(slow).with(test.more))
			v := h.vm("vm1")
			guest := h.plug(v.tapOf(n.add(v)))
			peer, pull := h.peer()
			n.holds(v)
			if got := h.devices(); len(got) != test.devices {
				t.Errorf("devices %v, want %d", got, test.devices)
			}
			for _, f := range trips {
				for far, limited := range map[string]bool{f.peer: test.inside, beyond[f.name]: test.outside} {
					send := freely
					if limited {
						send = burst
					}
					counts := map[string]int{
						"from": send(guest, peer, datagram(f.guest, far, 1000)),
						"to":   send(peer, guest, datagram(far, f.guest, 1000)),
					}
					for direction, got := range counts {
						if limited && got > 30 || !limited && got != 100 {
							t.Errorf("%s, %s the guest: %d of 100 frames arrived, limited is %t", far, direction, got, limited)
						}
					}
				}
			}
			pull()
			n.remove(v)
		})
	}
}

// A whole burst passes after a pause, and no less.
func TestBandwidthBurst(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, plain.with(unguarded).with(conf{"ingressRate": 20_000, "ingressBurst": 400_000, "egressRate": 20_000, "egressBurst": 80_000}))
	v := h.vm("vm1")
	guest := h.plug(v.tapOf(n.add(v)))
	peer, pull := h.peer()
	// The kernel keeps 4.29 seconds at the rate: 11 frames, not the 50 asked for.
	for direction, got := range map[string]int{
		"from": burst(guest, peer, datagram("10.1.0.2", "192.0.2.7", 1000)),
		"to":   burst(peer, guest, datagram("192.0.2.7", "10.1.0.2", 1000)),
	} {
		if got < 8 || got > 14 {
			t.Errorf("%s the guest: %d frames at once, want some 10", direction, got)
		}
	}
	pull()
	n.remove(v)
}

// CHECK misses each part of a limit; DEL goes on as if nothing were amiss.
func TestBandwidthIsChecked(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits conf
		change string // $tap, $in, $out: the devices
		words  []string
	}{
		{"root", limit10, "tc qdisc del dev $tap root", []string{"limit is", "expected to guest rate 10000000"}},
		{"root replaced", limit10, "tc qdisc replace dev $tap root handle 1: tbf rate 10mbit burst 25000 limit 50000", []string{"limit is to guest none"}},
		{"root changed", limit10, "tc qdisc change dev $tap root handle 6d76: tbf rate 9mbit burst 25924 limit 58331", []string{"limit is to guest rate"}},
		{"root of the device", limit10, "tc qdisc del dev $out root", []string{"from guest none"}},
		{"filter", limit10, "tc filter del dev $tap ingress", []string{"from guest none"}},
		{"clsact", limit10, "tc qdisc del dev $tap clsact", []string{"from guest none"}},
		{"device down", limit10, "ip link set $out down", []string{"up is off"}},
		{"device gone", limit10, "ip link del $out", []string{"link is none, expected an ifb"}},
		{"device to the guest down", limitAll, "ip link set $in down", []string{"up is off"}},
		{"device to the guest gone", limitAll, "ip link del $in", []string{"to guest none"}},
		{"filter to the guest", limitAll, "tc filter del dev $tap egress", []string{"to guest none"}},
		{"a subnet", limitAll, "tc filter del dev $tap ingress pref 50000", []string{"from guest none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", newest, tap, plain.with(unguarded).with(test.limits))
			v := h.vm("vm1")
			name := v.tapOf(n.add(v))
			n.holds(v)
			h.sh("tap=" + name + `; in=$(ls /sys/class/net | grep ^mvd- || true); out=$(ls /sys/class/net | grep ^mvu-); ` + test.change)
			wantError(t, n.check(v), 102, test.words...)
			n.remove(v)
			n.add(v)
			n.holds(v)
			n.remove(v)
		})
	}
}

// Limits outlive what a VMM and an administrator do to the tap.
func TestBandwidthSurvives(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, plain.with(unguarded).with(limit10))
	v := h.vm("vm1")
	name := v.tapOf(n.add(v))
	before := h.traffic(name)
	h.sh("ip link set " + name + " down; ip link set " + name + " up")
	h.plug(name)
	n.holds(v)
	if after := h.traffic(name); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	n.remove(v)
}

// Somebody else's tap is given back as it was, with what others filter there.
func TestBandwidthForeignTap(t *testing.T) {
	for _, test := range []struct{ name, before string }{
		{"nothing there", "true"},
		{"clsact of somebody", "tc qdisc add dev tap0 clsact; tc filter add dev tap0 ingress pref 1 protocol ip u32 match ip dst 198.51.100.99/32"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.tap("tap0")
			h.sh("ip link set tap0 mtu 1450; " + test.before)
			n := h.foreign("tap0")
			h.fake("other-tap", `[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","interfaces":[{"name":"tap0"}]}'`)
			n.plugins[1] = plain.with(unguarded).with(limit10).with(conf{"shapedSubnets": []string{"192.0.2.0/24"}})
			traffic := h.traffic("tap0")
			for _, undo := range []string{"DEL", "DEL without devices", "GC"} {
				v := h.vm("vm1")
				n.add(v)
				n.holds(v)
				guest := h.plug("tap0")
				peer, pull := h.peer()
				if got := rate(guest, peer, datagram("10.1.0.2", "192.0.2.7", 1400)); got < 2 || got > 12 {
					t.Errorf("from the guest: %.1f Mbit/s", got)
				}
				guest.close()
				pull()
				switch undo {
				case "GC":
					n.forget()
					if err := n.gc(); err != nil {
						t.Error(err)
					}
				case "DEL without devices":
					h.sh("for d in $(ls /sys/class/net | grep ^mv[du]-); do ip link del $d; done")
					n.remove(v)
				default:
					n.remove(v)
				}
				if after := h.traffic("tap0"); after != traffic {
					t.Errorf("%s: before\n%s\nafter\n%s", undo, traffic, after)
				}
				if left := h.devices(); len(left) > 0 {
					t.Errorf("%s left %v", undo, left)
				}
			}
		})
	}
}

// Frames longer than an ifb device's own MTU pass.
func TestBandwidthOfLongFrames(t *testing.T) {
	h := newHost(t)
	slow := conf{"ingressRate": 100_000, "ingressBurst": 320_000, "egressRate": 100_000, "egressBurst": 320_000}
	n := h.network("lab", newest, tap, plain.with(unguarded).with(limitAll).with(slow).with(conf{"mtu": 9000}))
	v := h.vm("vm1")
	guest := h.plug(v.tapOf(n.add(v)))
	peer, pull := h.peer()
	h.sh("ip link set peer mtu 9000")
	n.holds(v)
	for direction, got := range map[string]int{
		"from": burst(guest, peer, datagram("192.0.2.1", "192.0.2.7", 8000)),
		"to":   burst(peer, guest, datagram("192.0.2.7", "192.0.2.1", 8000)),
	} {
		if got < 3 || got > 30 {
			t.Errorf("%s the guest: %d of 100 frames arrived, want some 10", direction, got)
		}
	}
	pull()
	n.remove(v)
}

// STATUS tells of limits that no ADD would take.
func TestBandwidthStatus(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, plain.with(unguarded).with(conf{"egressBurst": 1_000_000}))
	wantError(t, n.status(), 7, "egressBurst is set, but egressRate is not")
	n.plugins[1] = plain.with(unguarded).with(limitAll)
	if err := n.status(); err != nil {
		t.Error(err)
	}
}

// What makes no sense is refused before anything is made.
func TestBandwidthRefused(t *testing.T) {
	h := newHost(t)
	h.bridge("br0", "")
	before := h.snapshot("ip -d address show")
	for _, test := range []struct {
		more  conf
		code  uint
		words []string
	}{
		{conf{"ingressRate": 1_000_000, "ingressBurst": 12_143}, 7, []string{"ingressBurst 12143 is less than a frame of MTU 1500"}},
		{conf{"egressBurst": 1_000_000}, 7, []string{"egressBurst is set, but egressRate is not"}},
		{conf{"egressRate": 7}, 7, []string{"egressRate 7 is out of range"}},
		{conf{"egressRate": 1000}, 7, []string{"egressRate 1000 is too slow"}},
		{limit10.with(conf{"shapedSubnets": []string{"10.0.0.0/8"}, "unshapedSubnets": []string{"10.0.0.0/8"}}), 7, []string{"exclude each other"}},
		{limit10.with(conf{"shapedSubnets": []string{"10.0.0.0"}}), 7, []string{`"10.0.0.0" is not a subnet`}},
		{conf{"runtimeConfig": conf{"bandwidth": conf{"egressRate": 7}}}, 7, []string{"egressRate 7 is out of range"}},
	} {
		n := h.network("lab", newest, tap, gateway.with(test.more))
		_, err := n.tryAdd(h.vm("vm1"))
		wantError(t, err, test.code, test.words...)
		n.remove(h.vm("vm1"))
		before.same(t)
	}
	if leases := h.leases("lab"); len(leases) > 0 {
		t.Errorf("leases %v", leases)
	}
}

// A device of somebody else with the name of ours is refused, and never touched.
func TestBandwidthForeignDevice(t *testing.T) {
	for _, kind := range []string{"ifb", "bridge"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			n := h.pair(limit10)
			v := h.vm("vm1")
			n.add(v)
			name := h.devices()[0]
			n.remove(v)
			h.sh("ip link add " + name + " type " + kind + " && ip link set " + name + " alias somebody")
			h.mine = append(h.mine, name)
			before := h.snapshot("ip -d address show")
			_, err := n.tryAdd(v)
			wantError(t, err, 101, name, "exists already")
			n.remove(v) // of the tap
			before.same(t)
			if err := n.gc(); err != nil {
				t.Error(err)
			}
			before.same(t)
		})
	}
}

// Devices whose port is gone go with DEL and GC, and only those of the network
// whose attachment is not valid.
func TestBandwidthWithoutPort(t *testing.T) {
	for _, undo := range []string{"DEL", "GC"} {
		t.Run(undo, func(t *testing.T) {
			h := newHost(t)
			n := h.pair(limitAll)
			other := h.network("side", newest, tap, plain.with(unguarded).with(limit10))
			one, two := h.vm("vm1"), h.vm("vm2")
			name := one.tapOf(n.add(one))
			n.add(two)
			other.add(one)
			h.sh("ip link del " + name)
			if got := h.devices(); len(got) != 5 {
				t.Fatalf("devices %v, want 5", got)
			}
			if undo == "GC" {
				if err := n.gc(two); err != nil {
					t.Error(err)
				}
			} else {
				n.remove(one)
			}
			if got := h.devices(); len(got) != 3 {
				t.Errorf("devices %v, want 3", got)
			}
			n.holds(two)
			other.holds(one)
			other.remove(one)
			n.remove(two)
			n.remove(one)
		})
	}
}

// An ADD that fails late takes the limits back.
func TestBandwidthRollback(t *testing.T) {
	h := newHost(t)
	h.tap("tap0")
	h.sh("tc qdisc add dev tap0 root handle 1: tbf rate 1mbit burst 9000 limit 9000")
	before := h.snapshot("ip -d address show; tc qdisc show; tc filter show dev tap0 ingress")
	n := h.network("lab", newest, plain.with(unguarded).with(limit10))
	prev := conf{"cniVersion": newest, "interfaces": []conf{{"name": "tap0"}}}
	a := h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: h.vm("vm1"), stdin: n.single(0, conf{"prevResult": prev})})
	a.refused(t, newest, 101, "already has a queueing discipline tbf of somebody else")
	before.same(t)
}
