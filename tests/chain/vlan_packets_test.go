package chain

import (
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// street is a bridge with guests in several VLANs.
type street struct {
	a, b, c, plain, trunk *tapGuest // in 100, in 100, in 200, in the default VLAN; tags 100 and 200, and is in 300
}

// newStreet attaches and opens all, with their taps on the host or away; nil where
// the kernel knows no VLANs.
func newStreet(h *host, placement conf) *street {
	h.t.Helper()
	l2 := unguarded.with(conf{"isGateway": false}) // what guests may say at all is not the point
	hundred, two, untagged := h.inVLAN(100, unguarded), h.inVLAN(200, l2), h.pair(l2)
	trunk := h.inVLAN(30, unguarded.with(conf{"isGateway": false, "vlan": 300, "vlanTrunk": []conf{{"id": 100}, {"minID": 199, "maxID": 201}}}))
	if !hundred.tellsApart() {
		return nil
	}
	guests := make([]*tapGuest, 0, 5)
	for i, n := range []*network{hundred, hundred, two, untagged, trunk} {
		v := h.vm("vm" + string(rune('a'+i)))
		v.ifname = "eth" + string(rune('a'+i))
		n.plugins[0] = placement
		r := n.add(v)
		if placement["placement"] == nil {
			guests = append(guests, h.guest(v.tapOf(r)))
		} else {
			guests = append(guests, h.guestAway(v.tapOf(r), portOf(r)))
		}
		h.t.Cleanup(func() { n.remove(v) })
	}
	return &street{guests[0], guests[1], guests[2], guests[3], guests[4]}
}

// portOf is the device on the bridge, in a result whose tap is away.
func portOf(r *types100.Result) (port string) {
	for _, in := range r.Interfaces {
		if in.Sandbox == "" && in.Name != "br0" {
			port = in.Name
		}
	}
	return port
}

// Guests of one VLAN hear each other and nobody else; a trunk hears its VLANs
// with their tags, and its native one without.
func TestVLANPackets(t *testing.T) {
	for name, placement := range placements {
		t.Run(name, func(t *testing.T) { vlanPackets(t, placement) })
	}
}

func vlanPackets(t *testing.T, placement conf) {
	t.Helper()
	h := newHost(t)
	s := newStreet(h, placement)
	if s == nil {
		return
	}
	all := []*tapGuest{s.a, s.b, s.c, s.plain, s.trunk}
	for _, family := range []int{4, 6} {
		to := func(from *tapGuest, tag int, text string) vlanFrame {
			return vlanFrame{src: from.mac, dst: broadcast, tag: tag, family: family, text: text}
		}
		for _, test := range []struct {
			name  string
			from  *tapGuest
			tag   int
			heard map[*tapGuest]int // with which tag
		}{
			{"from 100", s.a, 0, map[*tapGuest]int{s.b: 0, s.trunk: 100}},
			{"from 200", s.c, 0, map[*tapGuest]int{s.trunk: 200}},
			{"from the default VLAN", s.plain, 0, map[*tapGuest]int{}},
			{"trunk without a tag", s.trunk, 0, map[*tapGuest]int{}},
			{"trunk with tag 100", s.trunk, 100, map[*tapGuest]int{s.a: 0, s.b: 0}},
			{"trunk with tag 200", s.trunk, 200, map[*tapGuest]int{s.c: 0}},
			{"trunk with a tag that is not its own", s.trunk, 400, map[*tapGuest]int{}},
			{"trunk into the default VLAN", s.trunk, 1, map[*tapGuest]int{}},
			{"100 with tag 200", s.a, 200, map[*tapGuest]int{}},
			{"100 into the default VLAN", s.a, 1, map[*tapGuest]int{}},
		} {
			f := to(test.from, test.tag, test.name)
			test.from.send(f)
			for _, g := range all {
				if tag, in := test.heard[g]; in {
					g.hears(to(test.from, tag, test.name))
				} else {
					g.hears()
				}
			}
		}
		s.b.send(to(s.b, 0, "hello"))
		s.a.hears(to(s.b, 0, "hello"))
		s.trunk.hears(to(s.b, 100, "hello"))
		// The bridge has learned who is where: unicast, to neighbours and strangers.
		for _, test := range []struct {
			from, to *tapGuest
			heard    bool
		}{{s.a, s.b, true}, {s.b, s.a, true}, {s.a, s.c, false}, {s.c, s.a, false}, {s.a, s.plain, false}, {s.plain, s.a, false}} {
			f := vlanFrame{src: test.from.mac, dst: test.to.mac, family: family, text: "to you"}
			test.from.send(f)
			for _, g := range all {
				switch {
				case g == test.to && test.heard:
					g.hears(f)
				case g == s.trunk && !test.heard && test.from != s.plain: // the bridge knows no such station in that VLAN
					tagged := f
					if tagged.tag = 100; test.from == s.c {
						tagged.tag = 200
					}
					g.hears(tagged)
				case g == s.b && !test.heard && test.from == s.a:
					g.hears(f)
				default:
					g.hears()
				}
			}
		}
	}
}

// The gateway answers in its own VLAN only.
func TestVLANGatewayAnswers(t *testing.T) {
	for name, placement := range placements {
		t.Run(name, func(t *testing.T) { vlanGatewayAnswers(t, placement) })
	}
}

func vlanGatewayAnswers(t *testing.T, placement conf) {
	t.Helper()
	h := newHost(t)
	s := newStreet(h, placement)
	if s == nil {
		return
	}
	for _, ip := range []struct{ own, gateway string }{{"10.100.0.77", "10.100.0.1"}, {"fd00:100::77", "fd00:100::1"}} {
		s.a.reaches(t, ip.own, ip.gateway, 0, true)
		s.trunk.reaches(t, ip.own, ip.gateway, 100, true)
		s.c.reaches(t, ip.own, ip.gateway, 0, false)
		s.trunk.reaches(t, ip.own, ip.gateway, 200, false)
		s.trunk.reaches(t, ip.own, ip.gateway, 0, false)
		s.a.reaches(t, ip.own, ip.gateway, 0, true)
		if s.c.answered(ip.gateway, 0) {
			t.Errorf("%s answers in VLAN 200", ip.gateway)
		}
	}
}

// preserveDefaultVlan: the guest hears the default VLAN, and speaks in its own.
func TestVLANPreserved(t *testing.T) {
	h := newHost(t)
	n, untagged := h.inVLAN(100, unguarded.with(conf{"preserveDefaultVlan": true})), h.pair(unguarded.with(conf{"isGateway": nil}))
	if !n.tellsApart() {
		return
	}
	one, two, other := h.vm("vm1"), h.vm("vm2"), h.vm("vm3")
	a, b := h.guest(one.tapOf(n.add(one))), h.guest(two.tapOf(n.add(two)))
	c := h.guest(other.tapOf(untagged.add(other)))
	for _, family := range []int{4, 6} {
		f := vlanFrame{src: c.mac, dst: broadcast, family: family, text: "to all"}
		c.send(f)
		a.hears(f)
		b.hears(f)
		f.src = a.mac
		a.send(f)
		b.hears(f)
		c.hears()
	}
	n.remove(one)
	n.remove(two)
	untagged.remove(other)
}

// Without vlan a bridge takes no notice of tags, on whatever kernel.
func TestNoVLANPackets(t *testing.T) {
	h := newHost(t)
	n := h.pair(unguarded)
	one, two := h.vm("vm1"), h.vm("vm2")
	a, b := h.guest(one.tapOf(n.add(one))), h.guest(two.tapOf(n.add(two)))
	for _, family := range []int{4, 6} {
		for _, tag := range []int{0, 100} {
			f := vlanFrame{src: a.mac, dst: broadcast, tag: tag, family: family, text: "to all"}
			a.send(f)
			b.hears(f)
			f.src, f.dst = b.mac, a.mac
			b.send(f)
			a.hears(f)
		}
	}
	a.reaches(t, "10.1.0.77", "10.1.0.1", 0, true)
	n.remove(one)
	n.remove(two)
}
