package chain

import (
	"strings"
	"testing"
)

// A bridge that is not ours is never made to filter.
func TestVLANsOnSomebodysBridge(t *testing.T) {
	for _, mode := range []string{"existing", "create"} {
		t.Run(mode, func(t *testing.T) {
			h := newHost(t)
			h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
			n := h.network("lab", newest, tap, plain.with(conf{"bridgeMode": mode, "vlan": 100}))
			if !n.tellsApart() {
				return
			}
			h.sh("ip link add uplink0 type veth peer name uplink1; ip link set uplink0 master br0")
			h.mine = append(h.mine, "uplink0", "uplink1")
			before := h.snapshot("bridge vlan show; ip -d address show")
			v := h.vm("vm1")
			_, err := n.tryAdd(v)
			wantError(t, err, 7, "br0", "does not tell VLANs apart")
			n.remove(v)
			before.same(t)
			h.sh("ip link set br0 type bridge vlan_filtering 1")
			filtering := h.snapshot("bridge vlan show; ip -d address show")
			if got := h.vlansOf(v.tapOf(n.add(v))); got != "100 PVID Egress Untagged" {
				t.Errorf("VLANs are %q", got)
			}
			if got := h.vlansOf("uplink0"); got != "1 PVID Egress Untagged" {
				t.Errorf("VLANs of the uplink are %q", got)
			}
			n.holds(v)
			h.sh("ip link set br0 type bridge vlan_filtering 0")
			wantError(t, n.check(v), 102, "br0", "vlan_filtering is off")
			h.sh("ip link set br0 type bridge vlan_filtering 1")
			n.remove(v)
			filtering.same(t)
			h.sh("ip link del uplink0")
		})
	}
}

// The plugin's own bridge learns to filter while guests are on it, who do not
// notice; not so with a port of somebody else.
func TestVLANsOnBridgeThatStands(t *testing.T) {
	h := newHost(t)
	plain, tagged := h.pair(conf{"ipam": nil, "isGateway": nil}), h.inVLAN(100, nil)
	if !tagged.tellsApart() {
		return
	}
	one, two, v := h.vm("vm1"), h.vm("vm2"), h.vm("vm3")
	a, b := h.guest(one.tapOf(plain.add(one))), h.guest(two.tapOf(plain.add(two)))
	h.sh("ip link add uplink0 type veth peer name uplink1; ip link set uplink0 master br0")
	h.mine = append(h.mine, "uplink0", "uplink1")
	before := h.snapshot("bridge vlan show; ip -d link show br0; ip -d link show uplink0")
	_, err := tagged.tryAdd(v)
	wantError(t, err, 7, "br0", "uplink0")
	tagged.remove(v)
	before.same(t)
	h.sh("ip link set uplink0 nomaster")
	c := h.guest(v.tapOf(tagged.add(v)))
	for _, family := range []int{4, 6} {
		a.send(vlanFrame{dst: broadcast, family: family, text: "to all"})
		b.hears(vlanFrame{src: a.mac, dst: broadcast, family: family, text: "to all"})
		c.hears()
	}
	plain.holds(one)
	plain.holds(two)
	tagged.holds(v)
	h.sh("ip link del uplink0")
	for _, g := range []*tapGuest{a, b, c} {
		g.file.Close()
	}
	tagged.remove(v)
	if h.link("br0.100") != nil {
		t.Error("the gateway is left")
	}
	plain.holds(one)
	plain.remove(one)
	plain.remove(two)
}

// A device that has the gateway's name, or its VLAN, and is not ours stays as it
// is, as does a bridge that is in the VLAN in a way that leaves no room.
func TestVLANGatewayTaken(t *testing.T) {
	for _, test := range []struct {
		name, script string
		code         uint
		words        []string
	}{
		{"same device", "ip link add link br0 name br0.100 type vlan id 100", 101, []string{"br0.100", "somebody else's vlan"}},
		{"another kind", "ip link add br0.100 type ifb", 101, []string{"br0.100", "somebody else's ifb"}},
		{"same VLAN", "ip link add link br0 name lan100 type vlan id 100", 101, []string{"br0.100", "VLAN 100"}},
		{"bridge half in it", "bridge vlan add vid 100 dev br0 self untagged", 7, []string{"br0", "VLAN 100"}},
		{"a tap's", "ip tuntap add br0.100 mode tap", 101, []string{"br0.100"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.inVLAN(100, nil)
			if !n.tellsApart() {
				return
			}
			h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
			h.sh("ip link set br0 type bridge vlan_filtering 1; " + test.script)
			h.mine = append(h.mine, "br0.100", "lan100")
			before := h.snapshot("bridge vlan show; ip -d address show")
			v := h.vm("vm1")
			_, err := n.tryAdd(v)
			wantError(t, err, test.code, test.words...)
			n.remove(v)
			if err := n.gc(); err != nil {
				t.Error(err)
			}
			before.same(t)
		})
	}
}

// Where the bridge itself is in the guest's VLAN it is the gateway.
func TestVLANOfTheBridgeItself(t *testing.T) {
	h := newHost(t)
	n := h.inVLAN(100, nil)
	if !n.tellsApart() {
		return
	}
	h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
	h.sh("ip link set br0 type bridge vlan_filtering 1; bridge vlan add vid 100 dev br0 self pvid untagged")
	before := h.snapshot("bridge vlan show; ip -d link show br0")
	v := h.vm("vm1")
	n.add(v)
	if br := h.link("br0"); !br.has("10.100.0.1/16") || !br.has("fd00:100::1/64") || h.link("br0.100") != nil {
		t.Errorf("addresses are %v, links %v", br.Addresses, h.made())
	}
	n.holds(v)
	n.remove(v)
	before.same(t)
}

// A bridge's name that leaves no room for the VLAN's number.
func TestVLANOfLongName(t *testing.T) {
	h := newHost(t)
	n := h.inVLAN(100, conf{"bridge": "fifteen-letters"})
	if !n.tellsApart() {
		return
	}
	v := h.vm("vm1")
	n.add(v)
	n.holds(v)
	found := false
	for _, l := range h.links() {
		found = found || strings.HasPrefix(l.Name, "mvg-") && l.has("10.100.0.1/16") && l.Alias == "microvm-cni:gateway"
	}
	if !found {
		t.Errorf("links are %v", h.made())
	}
	n.remove(v)
}

// Gateways of two networks in one VLAN agree, or the second is refused.
func TestVLANNetworksOfOneBridge(t *testing.T) {
	h := newHost(t)
	first, same := h.inVLAN(100, nil), h.inVLAN(100, nil)
	if !first.tellsApart() {
		return
	}
	same.name = "same"
	other := h.inVLAN(100, conf{"ipam": conf{"type": "host-local", "ranges": ranges("10.9.0.0/16")}})
	other.name = "other"
	one, two := h.vm("vm1"), h.vm("vm2")
	first.add(one)
	_, err := other.tryAdd(two)
	wantError(t, err, 7, "br0.100", "10.100.0.1/16", "10.9.0.1")
	other.remove(two)
	same.plugins[1] = same.plugins[1].with(conf{"ipam": conf{"type": "host-local", "ranges": [][]conf{{{"subnet": "10.100.0.0/16", "rangeStart": "10.100.9.1"}}}}})
	same.add(two)
	first.remove(one)
	same.holds(two)
	same.remove(two)
}

// A plugin that is killed leaves nothing that the next DEL or GC does not remove:
// of its own bridge, and of somebody's.
func TestKilledWithVLANs(t *testing.T) {
	for _, whose := range []string{"own", "somebody's"} {
		for _, verb := range []string{"ADD", "DEL", "GC"} {
			t.Run(whose+" "+verb, func(t *testing.T) {
				h := newHost(t)
				n := h.inVLAN(100, nil)
				if !n.tellsApart() {
					return
				}
				if whose != "own" {
					h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
					h.sh("ip link set br0 type bridge vlan_filtering 1")
				}
				before := h.snapshot("bridge vlan show")
				(&walk{n: n, v: h.vm("vm1"), plugin: "microvm-bridge", verb: verb}).kills(t, 7)
				before.same(t)
			})
		}
	}
}

// An ADD that fails late takes its gateway back.
func TestVLANRollback(t *testing.T) {
	h := newHost(t)
	n := h.inVLAN(100, nil)
	if !n.tellsApart() {
		return
	}
	one, two := h.vm("vm1"), h.vm("vm2")
	one.args, two.args = "MAC=02:00:00:00:00:07", "MAC=02:00:00:00:00:07"
	n.add(one)
	other := h.inVLAN(200, nil)
	before := h.snapshot("bridge vlan show; ip -d address show br0; ip -d address show type vlan")
	_, err := other.tryAdd(two) // with its port on the bridge, it is found that the address is taken
	wantError(t, err, 7, "02:00:00:00:00:07")
	before.same(t)
	other.remove(two)
	n.remove(one)
}
