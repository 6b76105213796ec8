package chain

import (
	"net"
	"strings"
	"testing"
)

// reaches tells whether somebody on the LAN of a NIC, in that VLAN of it, finds an
// address there.
func (h *host) reaches(nic, vlan, from, to string) bool {
	h.t.Helper()
	h.sh("ip -n " + nic + " link add link eth0 name eth0." + vlan + " type vlan id " + vlan + "; ip -n " + nic + " address add " + from + " dev eth0." + vlan + "; ip -n " + nic + " link set eth0." + vlan + " up")
	defer h.sh("ip -n " + nic + " link del eth0." + vlan)
	return eventually(func() bool {
		err := h.do(func() error {
			if err := enter("/run/netns/" + nic); err != nil {
				return err
			}
			c, err := net.Dial("udp", net.JoinHostPort(to, "9"))
			if err != nil {
				return err
			}
			_, _ = c.Write([]byte("hello"))
			return c.Close()
		})
		if err != nil {
			h.t.Fatal(err)
		}
		return strings.Contains(h.sh("ip -n "+nic+" neigh show dev eth0."+vlan+" to "+to), "lladdr")
	})
}

// The uplink is in the VLANs of the guests, as long as it is lent.
func TestUplinkCarriesVLANs(t *testing.T) {
	h := newHost(t)
	h.nic("eth1")
	keys := unguarded.with(conf{"uplink": "eth1"})
	hundred, two := h.inVLAN(100, keys), h.inVLAN(200, keys.with(conf{"vlanTrunk": []conf{{"minID": 300, "maxID": 302}}}))
	before := h.snapshot("ip -d address show eth1")
	if !hundred.tellsApart() {
		return
	}
	v, w := h.vm("vm1"), h.vm("vm2")
	hundred.add(v)
	if !h.reaches("eth1", "100", "10.100.0.77/16", "10.100.0.1") {
		t.Error("nobody on the LAN finds the gateway of VLAN 100")
	}
	if vlans := h.vlansOf("eth1"); strings.Contains(vlans, "200") {
		t.Errorf("the uplink is in a VLAN that nobody asked for: %s", vlans)
	}
	two.add(w)
	hundred.holds(v)
	two.holds(w)
	if !h.reaches("eth1", "200", "10.200.0.77/16", "10.200.0.1") {
		t.Error("nobody on the LAN finds the gateway of VLAN 200")
	}
	h.sh("bridge vlan del vid 301 dev eth1")
	hundred.holds(v)
	wantError(t, two.check(w), 102, "eth1", "in vlan is", "301")
	two.remove(w)
	two.add(w)
	two.holds(w)
	two.remove(w)
	hundred.holds(v)
	hundred.remove(v)
	before.same(t)
	h.empty()
}

// A NIC that somebody else made a port must be in them, and is never changed.
func TestUplinkOfOthersCarriesVLANs(t *testing.T) {
	h := newHost(t)
	h.nic("eth1")
	n := h.inVLAN(100, unguarded.with(conf{"uplink": "eth1", "bridgeMode": "existing"}))
	n.plugins[1] = n.plugins[1].with(conf{"isGateway": nil, "ipam": nil})
	if !h.filters() {
		return
	}
	h.bridge("br0", "")
	h.sh("ip link set br0 type bridge vlan_filtering 1; ip link set eth1 master br0 up")
	v := h.vm("vm1")
	wantError(t, n.status(), 50, "eth1", "not in VLAN 100")
	_, err := n.tryAdd(v)
	wantError(t, err, 7, "eth1", "not in VLAN 100")
	if advice := "bridge vlan add vid 100 dev eth1"; !strings.Contains(err.Error(), advice) {
		t.Errorf("%v does not say to %s", err, advice)
	}
	n.remove(v)
	h.sh("bridge vlan add vid 100 dev eth1")
	n.add(v)
	n.holds(v)
	h.sh("bridge vlan del vid 100 dev eth1")
	wantError(t, n.check(v), 102, "eth1", "in vlan is")
	n.remove(v)
	if vlans := h.vlansOf("eth1"); strings.Contains(vlans, "100") {
		t.Errorf("the uplink was changed: %s", vlans)
	}
	h.sh("ip link set eth1 nomaster")
}

// A NIC that the host took back, or uses, stays as it is.
func TestUplinkThatTheHostUses(t *testing.T) {
	for name, script := range map[string]string{
		"taken back": "ip link set eth1 nomaster; ip address add 192.0.2.9/24 dev eth1; ip route add default via 192.0.2.1 dev eth1",
		"a route":    "ip link set eth1 nomaster; ip route add 198.51.100.0/24 dev eth1",
		"an address": "ip address add 192.0.2.9/24 dev eth1",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.nic("eth1")
			n, v := h.uplinked(nil), h.vm("vm1")
			n.add(v)
			h.sh(script)
			routes := h.snapshot("ip address show eth1 | grep -v -e ^[0-9] -e fe80 -e valid_lft -e altname; ip route show dev eth1")
			wantError(t, n.check(v), 102, "eth1")
			n.remove(v)
			if nic := h.link("eth1"); !nic.up() || nic.Master != "" || len(nic.AltNames) > 0 {
				t.Errorf("NIC is %+v", nic)
			}
			routes.same(t)
			h.sh("ip address flush dev eth1; ip link set eth1 down")
		})
	}
}
