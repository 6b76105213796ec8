package chain

import (
	"net/netip"
	"slices"
	"testing"
)

// Two networks on one bridge agree, or the second is refused and the first does
// not notice.
func TestNetworksOfOneBridge(t *testing.T) {
	hostLocal := func(subnets ...string) conf {
		return conf{"type": "host-local", "ranges": ranges(subnets...)}
	}
	for _, test := range []struct {
		name          string
		first, second conf
		words         []string // of the refusal, nil for none
	}{
		{"same gateway", nil, conf{"ipam": conf{"type": "host-local", "ranges": [][]conf{{{"subnet": "10.1.0.0/16", "rangeStart": "10.1.9.1"}}}}}, nil},
		{"no gateway", nil, conf{"isGateway": nil, "ipam": nil}, nil},
		{"another gateway", nil, conf{"ipam": hostLocal("10.2.0.0/16")}, []string{"br0", "10.1.0.1/16", "10.2.0.1"}},
		{"another gateway in the same subnet", nil, conf{"ipam": conf{"type": "host-local", "ranges": [][]conf{{{"subnet": "10.1.0.0/16", "gateway": "10.1.0.254"}}}}}, []string{"br0", "10.1.0.1/16", "10.1.0.254"}},
		{"another prefix length", nil, conf{"ipam": hostLocal("10.1.0.0/24")}, []string{"br0", "10.1.0.1/16", "10.1.0.1/24"}},
		{"IPv6 beside IPv4", nil, conf{"ipam": hostLocal("fd00:1::/64")}, nil},
		{"another IPv6 subnet", conf{"ipam": hostLocal("fd00:1::/64")}, conf{"ipam": hostLocal("fd00:2::/64")}, nil},
		{"an overlapping IPv6 subnet", conf{"ipam": hostLocal("fd00:1::/64")}, conf{"ipam": hostLocal("fd00:1::/56")}, []string{"br0", "fd00:1::1/64", "fd00:1::1/56"}},
		{"same MTU", conf{"mtu": 1400}, conf{"mtu": 1400, "isGateway": nil}, nil},
		{"MTU of the bridge", conf{"mtu": 1400}, conf{"isGateway": nil}, nil},
		{"larger MTU", conf{"mtu": 1400}, conf{"mtu": 1500}, []string{"br0", "1400", "1500"}},
		{"smaller MTU", nil, conf{"mtu": 1400}, []string{"br0", "1400", "1500"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			first := h.pair(test.first)
			second := h.network("second", newest, tap, gateway.with(test.second))
			one, two := h.vm("vm1"), h.vm("vm2")
			first.add(one)
			before := h.snapshot("ip -d address show br0; ip route")
			_, err := second.tryAdd(two)
			if test.words == nil {
				if err != nil {
					t.Errorf("ADD on the second network: %v", err)
				} else {
					second.holds(two)
				}
			} else {
				wantError(t, err, 7, test.words...)
				if leases := h.leases("second"); len(leases) > 0 {
					t.Errorf("leases are %v", leases)
				}
				before.same(t)
			}
			first.holds(one)
			second.remove(two)
			first.holds(one)
			first.remove(one)
		})
	}
}

// forceAddress takes the other gateway away, and its network is told by CHECK.
func TestForceAddress(t *testing.T) {
	h := newHost(t)
	first := h.pair(nil)
	second := h.network("second", newest, tap, gateway.with(conf{
		"forceAddress": true, "ipam": conf{"type": "host-local", "ranges": ranges("10.2.0.0/16")},
	}))
	one, two := h.vm("vm1"), h.vm("vm2")
	first.add(one)
	second.add(two)
	if br := h.link("br0"); br.has("10.1.0.1/16") || !br.has("10.2.0.1/16") {
		t.Errorf("addresses are %v", br.Addresses)
	}
	second.holds(two)
	wantError(t, first.check(one), 102, "br0", "10.1.0.1/16")
	second.remove(two)
	first.remove(one)
}

// A forceAddress that fails later gives the address back.
func TestForceAddressIsUndone(t *testing.T) {
	h := newHost(t)
	h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
	h.sh("ip address add 10.9.0.1/16 dev br0")
	h.tap("tap0")
	n := h.network("lab", newest, gateway.with(conf{"forceAddress": true}))
	// The guest's MAC address is the bridge's own, which only the last step finds.
	v := h.vm("vm1")
	v.args = "MAC=" + h.link("br0").MAC
	prev := conf{"cniVersion": newest, "interfaces": []conf{{"name": "tap0"}}}
	h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(0, conf{"prevResult": prev})}).
		refused(t, newest, 7, "br0", h.link("br0").MAC)
	if br := h.link("br0"); !br.has("10.9.0.1/16") || br.has("10.1.0.1/16") {
		t.Errorf("addresses are %v", br.Addresses)
	}
}

func TestDefaultGateway(t *testing.T) {
	h := newHost(t)
	n := h.pair(conf{"isGateway": nil, "isDefaultGateway": true, "ipam": conf{"type": "host-local", "ranges": ranges("10.1.0.0/16", "fd00:1::/64")}})
	v := h.vm("vm1")
	r := n.add(v)
	var routes []string
	for _, route := range r.Routes {
		routes = append(routes, route.Dst.String()+" "+route.GW.String())
	}
	if want := []string{"0.0.0.0/0 10.1.0.1", "::/0 fd00:1::1"}; !slices.Equal(routes, want) {
		t.Errorf("routes are %v, want %v", routes, want)
	}
	if br := h.link("br0"); !br.has("10.1.0.1/16") || !br.has("fd00:1::1/64") {
		t.Errorf("addresses of the bridge are %v", br.Addresses)
	}
	if on := h.sh("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding"); on != "1\n1\n" {
		t.Errorf("forwarding is %q", on)
	}
	n.holds(v)
	n.remove(v)
}

// Somebody else's bridge is joined as it is.
func TestForeignBridge(t *testing.T) {
	for _, test := range []struct {
		name string
		more conf
		made string // what the plugin may add to the bridge
	}{
		{"existing", conf{"bridgeMode": "existing", "isGateway": nil}, ""},
		{"create", nil, "10.1.0.1/16"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
			h.sh("ip link set br0 mtu 1480; ip address add 192.0.2.1/24 dev br0; ip link set br0 alias uplink-of-somebody")
			if test.made != "" {
				h.sh("ip address del 192.0.2.1/24 dev br0") // a second gateway would be refused
			}
			before := h.link("br0")
			n := h.pair(test.more)
			v := h.vm("vm1")
			r := n.add(v)
			during := h.link("br0")
			n.holds(v)
			if tap := h.link(v.tapOf(r)); tap.MTU != 1480 {
				t.Errorf("MTU of the tap is %d, of the bridge 1480", tap.MTU)
			}
			n.remove(v)
			after := h.link("br0")
			if after == nil {
				t.Fatal("DEL deleted a bridge that is not ours")
			}
			for _, l := range []*link{during, after} {
				if l.MAC != before.MAC || l.MTU != before.MTU || l.Alias != before.Alias || l.Promisc != before.Promisc || len(l.AltNames) > 0 {
					t.Errorf("bridge was changed from %+v to %+v", before, l)
				}
			}
			want := len(before.Addresses)
			if test.made != "" {
				want++
				if !during.has(test.made) {
					t.Errorf("bridge lacks %s", test.made)
				}
			}
			if len(during.Addresses) != want {
				t.Errorf("addresses are %v, were %v", during.Addresses, before.Addresses)
			}
		})
	}
}

// With bridgeMode existing nothing about the bridge changes, to the last flag.
func TestExistingBridgeIsUntouched(t *testing.T) {
	h := newHost(t)
	h.bridge("br0", "address 02:aa:aa:aa:aa:aa") // else it has that of a port
	before := h.snapshot(`ip -d address show br0; ip route; cd /proc/sys/net; cat ipv4/ip_forward; grep -r . ipv4/conf/br0 ipv6/conf/br0 2>/dev/null || true`)
	n := h.network("lab", newest, tap, plain.with(conf{"bridgeMode": "existing"}))
	for _, id := range []string{"vm1", "vm2", "vm3"} {
		n.add(h.vm(id))
	}
	before.same(t)
	for _, id := range []string{"vm1", "vm2", "vm3"} {
		n.remove(h.vm(id))
	}
	before.same(t)
}

// A guest learns nothing about the host's other networks from a bridge that the
// plugin made: without arp_ignore the host answers for each of its addresses.
func TestBridgeAnswersForItself(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	one, two := h.vm("vm1"), h.vm("vm2")
	r := n.add(one)
	h.station("outside", "192.0.2.2/24")
	h.sh("ip address add 192.0.2.1/24 dev outside")
	g := (&attached{t: t, h: h, r: r, tap: one.tapOf(r)}).boot()
	own, gw, other := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("192.0.2.1")
	answer, ask := g.question(own, other)
	ask()
	if !g.asks(own, gw) { // what came before this answer would be there by now
		t.Fatal("the gateway does not answer")
	}
	if g.has(answer) {
		t.Errorf("the host answers %s, which is another device's", other)
	}
	h.sh("sysctl -qw net.ipv4.conf.br0.arp_ignore=0")
	if !g.awaits(answer, ask) {
		t.Errorf("with arp_ignore off nothing answers either")
	}
	wantError(t, n.check(one), 102, "br0", "arp_ignore is off, expected on")
	n.add(two)
	n.holds(one)
	n.remove(one)
	n.remove(two)
}

// The plugin's own bridge keeps MAC and MTU whatever its ports have.
func TestBridgeIsPinned(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	one := h.vm("vm1")
	n.add(one)
	before := h.link("br0")
	h.sh("ip link add low0 address 02:00:00:00:00:01 mtu 1300 type veth peer name low1 && ip link set low0 master br0 && ip link set low0 up")
	if after := h.link("br0"); after.MAC != before.MAC || after.MTU != before.MTU {
		t.Errorf("bridge went from %s, %d to %s, %d", before.MAC, before.MTU, after.MAC, after.MTU)
	}
	n.holds(one)
	h.sh("ip link del low0")
	n.remove(one)
}

// A guest's MAC address is refused when another station of the bridge has it.
func TestMACTaken(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	one := h.vm("vm1")
	one.args = "MAC=02:00:00:00:00:07"
	holder := one.tapOf(n.add(one))
	h.sh("ip link add wire0 address 02:00:00:00:00:09 type veth peer name wire1 && ip link set wire0 master br0")
	for _, test := range []struct{ mac, holder string }{
		{"02:00:00:00:00:07", holder},
		{"02:00:00:00:00:09", "wire0"},
		{h.link("br0").MAC, "br0"},
	} {
		two := h.vm("vm2")
		two.args = "MAC=" + test.mac
		_, err := n.tryAdd(two)
		wantError(t, err, 7, test.mac, test.holder)
		if leases := h.leases("lab"); len(leases) != 1 {
			t.Errorf("leases are %v", leases)
		}
		n.remove(two)
	}
	n.holds(one)
	h.sh("ip link del wire0")
	n.remove(one)
}

// Port flags and the bridge's mode are set as configured, and found by CHECK.
func TestPortFlags(t *testing.T) {
	h := newHost(t)
	n := h.pair(conf{"hairpinMode": true, "portIsolation": true})
	v := h.vm("vm1")
	if port := h.link(v.tapOf(n.add(v))).Info.Port; !port.Hairpin || !port.Isolated {
		t.Errorf("flags are %+v", port)
	}
	n.holds(v)
	n.remove(v)
	n = h.pair(conf{"promiscMode": true, "enabledad": true, "ipam": conf{"type": "host-local", "ranges": ranges("fd00:1::/64")}, "dns": conf{"nameservers": []string{"fd00:1::53"}}})
	r := n.add(v)
	if br := h.link("br0"); !slices.Contains(br.Flags, "PROMISC") || !br.has("fd00:1::1/64") {
		t.Errorf("bridge is %+v", br)
	}
	if !slices.Equal(r.DNS.Nameservers, []string{"fd00:1::53"}) {
		t.Errorf("nameservers are %v", r.DNS.Nameservers)
	}
	n.holds(v)
	n.remove(v)
}

// What is shared and was broken by hand, the next ADD repairs.
func TestNextAddRepairs(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	one, two := h.vm("vm1"), h.vm("vm2")
	n.add(one)
	h.sh("ip link set br0 down promisc on; ip address del 10.1.0.1/16 dev br0; sysctl -qw net.ipv4.ip_forward=0")
	if n.check(one) == nil {
		t.Error("CHECK is green")
	}
	n.add(two)
	n.holds(one)
	n.holds(two)
	n.remove(one)
	n.remove(two)
}

// A bridge goes by its own name: an alternative one is refused before anything is
// made.
func TestBridgeByAnotherName(t *testing.T) {
	for _, mode := range []conf{{}, {"bridgeMode": "existing", "isGateway": nil}} {
		h := newQuietHost(t)
		h.bridge("br0", "")
		h.sh("ip link property add dev br0 altname lan-bridge")
		n, v := h.pair(mode.with(conf{"bridge": "lan-bridge"})), h.vm("vm1")
		before := h.snapshot("ip -d address show")
		wantError(t, n.status(), 50, "lan-bridge is another name of bridge br0")
		_, err := n.tryAdd(v)
		wantError(t, err, 7, "lan-bridge is another name of bridge br0")
		n.remove(v)
		before.same(t)
		h.sh("ip link property del dev br0 altname lan-bridge")
	}
}
