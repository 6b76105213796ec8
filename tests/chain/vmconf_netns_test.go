package chain

import (
	"slices"
	"testing"
)

// What vmconf reads out of results of taps in CNI_NETNS is what is there.
func TestVMConfInNetns(t *testing.T) {
	full := dual.with(conf{"isDefaultGateway": true, "mtu": 1400})
	const everything = "10.1.0.2/16 via 10.1.0.1, fd00:1::2/64 via fd00:1::1, 0.0.0.0/0 to 10.1.0.1, ::/0 to fd00:1::1, DNS []  [] []"
	portmap := conf{"type": "portmap", "capabilities": conf{"portMappings": true}}
	firewall := conf{"type": "firewall", "backend": "iptables"}
	tuning := conf{"type": "tuning", "txQLen": 500}
	for _, c := range []struct {
		name, args string
		plugins    []conf
		want       string
	}{
		{"the usual", "", []conf{awayTap, full}, everything},
		{"a tap with a name", "TAP_NAME=tap7", []conf{awayTap, full}, everything},
		{"portmap, firewall and tuning", "", []conf{awayTap, full, portmap, firewall, tuning}, everything},
		{"portmap and a name", "TAP_NAME=tap7", []conf{awayTap, full, portmap}, everything},
		{
			"IPv6 first", "",
			[]conf{awayTap, gateway.with(conf{"ipam": conf{"type": "host-local", "ranges": ranges("fd00:1::/64", "10.1.0.0/16")}})},
			"10.1.0.2/16 via 10.1.0.1, fd00:1::2/64 via fd00:1::1, DNS []  [] []",
		},
		{"no addresses", "", []conf{awayTap, plain}, "DNS []  [] []"},
	} {
		for _, version := range since("0.4.0") {
			t.Run(c.name+" "+version, func(t *testing.T) {
				h := newHost(t)
				n := h.network("lab", version, c.plugins...)
				v := h.mapped("vm1", false, 8081)
				v.ifname, v.args = "eth0", c.args
				nic := n.nic(v)
				i := slices.IndexFunc(h.inside(), func(l *link) bool { return l.Name == nic.Tap })
				if nic.Netns != v.netns || i < 0 {
					t.Fatalf("tap is %s in %s, want it in %s", nic.Tap, nic.Netns, v.netns)
				}
				if got := told(nic); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
				h.mtu(nic, h.inside()[i].MTU, version == newest)
				n.remove(v)
			})
		}
	}
}
