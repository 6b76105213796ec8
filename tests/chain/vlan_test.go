package chain

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// inVLAN is a network on br0 with a gateway for both families in a VLAN: 10.V and
// fd00:V are its subnets.
func (h *host) inVLAN(id int, more conf) *network {
	v := strconv.Itoa(id)
	return h.network("vlan"+v, newest, tap, gateway.with(conf{
		"vlan": id, "ipam": conf{"type": "host-local", "ranges": ranges("10."+v+".0.0/16", "fd00:"+v+"::/64")},
	}).with(more))
}

// filters tells whether the kernel's bridges tell VLANs apart.
func (h *host) filters() bool {
	h.t.Helper()
	return h.sh("ip link add probe type bridge vlan_filtering 1 2>/dev/null && ip link del probe && echo yes || ip link del probe 2>/dev/null || true") == "yes\n"
}

// tellsApart is filters. Where they do not, it makes sure that the network is
// refused before anything is made or anybody asked for addresses.
func (n *network) tellsApart() bool {
	h := n.h
	h.t.Helper()
	if h.filters() {
		return true
	}
	h.fake("moody", `echo "$CNI_COMMAND" >> /run/calls
echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.0.2/16","gateway":"10.9.0.1"}]}'`)
	asks := h.network("asks", n.version, slices.Clone(n.plugins)...)
	last := len(asks.plugins) - 1
	asks.plugins[last] = asks.plugins[last].with(conf{"ipam": conf{"type": "moody"}})
	before := h.snapshot("ip -d address show")
	v := h.vm("vm1")
	if n.plugins[0].plugin() == "microvm-tap" {
		_, err := asks.tryAdd(v)
		wantError(h.t, err, 100, "VLANs", "CONFIG_BRIDGE_VLAN_FILTERING")
		if calls := h.sh("grep -s ADD /run/calls || true"); calls != "" {
			h.t.Errorf("the IPAM plugin was asked: %s", calls)
		}
		n.remove(v)
		asks.remove(v)
	}
	wantError(h.t, n.status(), 50, "VLANs", "CONFIG_BRIDGE_VLAN_FILTERING")
	before.same(h.t)
	return false
}

// CHECK names what was changed by hand; DEL cleans up all the same, and what is
// shared the next ADD repairs.
func TestVLANCheckGoesRed(t *testing.T) {
	for _, test := range []struct {
		name, change string // a shell script; TAP is the tap's name
		repaired     bool   // by the next ADD
		words        []string
	}{
		{"VLAN added", "bridge vlan add vid 77 dev TAP", false, []string{"TAP", "vlan is 77 100 pvid untagged 200-202", "expected 100 pvid untagged 200-202"}},
		{"VLAN missing", "bridge vlan del vid 201 dev TAP", false, []string{"TAP", "vlan is 100 pvid untagged 200 202"}},
		{"no VLAN at all", "bridge vlan del vid 1-4094 dev TAP", false, []string{"TAP", "vlan is none"}},
		{"default VLAN back", "bridge vlan add vid 1 dev TAP untagged", false, []string{"TAP", "vlan is 1 untagged 100"}},
		{"another PVID", "bridge vlan add vid 200 dev TAP pvid", false, []string{"TAP", "vlan is 100 untagged 200 pvid"}}, // 5.10 does not tell of 201 and 202 then
		{"no PVID", "bridge vlan add vid 100 dev TAP untagged", false, []string{"TAP", "vlan is 100 untagged 200"}},
		{"tagged", "bridge vlan add vid 100 dev TAP pvid", false, []string{"TAP", "vlan is 100 pvid 200"}},
		{"a trunk's VLAN untagged", "bridge vlan add vid 201 dev TAP untagged", false, []string{"TAP", "200 201 untagged 202"}},
		{"filter off", "ip link set br0 type bridge vlan_filtering 0", true, []string{"br0", "vlan_filtering is off"}},
		{"gateway deleted", "ip link del br0.100", true, []string{"br0.100", "link is none"}},
		{"gateway down", "ip link set br0.100 down", true, []string{"br0.100", "up is off"}},
		{"gateway's IPv4 address", "ip address del 10.100.0.1/16 dev br0.100", true, []string{"br0.100", "10.100.0.1/16"}},
		{"gateway's IPv6 address", "ip address del fd00:100::1/64 dev br0.100", true, []string{"br0.100", "fd00:100::1/64"}},
		{"gateway's MTU", "ip link set br0.100 mtu 1400", true, []string{"br0.100", "mtu is 1400"}},
		{"gateway's router advertisements", "sysctl -qw net/ipv6/conf/br0.100/accept_ra=1", true, []string{"br0.100", "accept_ra is on"}},
		{"gateway's ARP", "sysctl -qw net/ipv4/conf/br0.100/arp_ignore=0", true, []string{"br0.100", "arp_ignore is off"}},
		{"gateway cut off", "bridge vlan del vid 100 dev br0 self", true, []string{"br0.100", "carried is off"}},
		{"gateway of another VLAN", "ip link del br0.100; ip link add link br0 name br0.100 type vlan id 7; ip link set br0.100 alias microvm-cni:gateway", false, []string{"br0.100", "vlan id is 7"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.inVLAN(100, conf{"vlanTrunk": []conf{{"minID": 200, "maxID": 202}}})
			if !n.tellsApart() {
				return
			}
			v := h.vm("vm1")
			name := v.tapOf(n.add(v))
			n.holds(v)
			h.sh(strings.ReplaceAll(test.change, "TAP", name))
			var words []string
			for _, w := range test.words {
				words = append(words, strings.ReplaceAll(w, "TAP", name))
			}
			wantError(t, n.check(v), 102, words...)
			if test.repaired {
				two := h.vm("vm2")
				n.add(two)
				n.holds(two)
				n.holds(v)
				n.remove(two)
			}
			n.remove(v)
			h.empty()
		})
	}
}

// vlansOf is what `bridge vlan show` says of a port, or of a bridge itself.
func (h *host) vlansOf(name string) string {
	h.t.Helper()
	return strings.Join(strings.Fields(h.sh("bridge -compressvlans vlan show dev "+name+" | tail -n +2 | sed s/^"+name+"//")), " ")
}

// Each key of the configuration, by what the kernel says.
func TestVLANsOfPort(t *testing.T) {
	for _, test := range []struct {
		name string
		more conf
		want string
	}{
		{"none", conf{"vlan": 0}, "1 PVID Egress Untagged"},
		{"vlan", conf{}, "100 PVID Egress Untagged"},
		{"vlan and default", conf{"preserveDefaultVlan": true}, "1 Egress Untagged 100 PVID Egress Untagged"},
		{"trunk", conf{"vlan": 0, "vlanTrunk": []conf{{"id": 7}, {"minID": 20, "maxID": 30}, {"minID": 25, "maxID": 32, "id": 5}}}, "1 PVID Egress Untagged 5 7 20-32"},
		{"trunk with its native VLAN", conf{"vlanTrunk": []conf{{"minID": 99, "maxID": 101}}}, "99 100 PVID Egress Untagged 101"},
		{"trunk of all", conf{"vlan": 0, "vlanTrunk": []conf{{"minID": 1, "maxID": 4094}}}, "1 PVID Egress Untagged 2-4094"},
		{"default and trunk", conf{"vlan": 0, "preserveDefaultVlan": true, "vlanTrunk": []conf{{"id": 7}}}, "1 PVID Egress Untagged 7"},
		{"the default VLAN by name", conf{"vlan": 1}, "1 PVID Egress Untagged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			first := h.inVLAN(200, conf{"isGateway": nil})
			if !first.tellsApart() {
				return
			}
			n := h.inVLAN(100, test.more)
			other, v := h.vm("other"), h.vm("vm1")
			first.add(other)
			name := v.tapOf(n.add(v))
			if got := h.vlansOf(name); got != test.want {
				t.Errorf("VLANs are %q, want %q", got, test.want)
			}
			n.holds(v)
			first.holds(other)
			if own := test.more["vlan"] == nil; (h.link("br0.100") != nil) != own {
				t.Errorf("a gateway of its own: %v, want %v", !own, own)
			}
			n.remove(v)
			if got := h.vlansOf("br0"); got != "1 PVID Egress Untagged" {
				t.Errorf("bridge is in VLANs %q", got)
			}
			first.remove(other)
		})
	}
}

// A gateway comes with the first guest of its VLAN and goes with the last, on the
// plugin's own bridge and on one of somebody else.
func TestVLANGatewaysComeAndGo(t *testing.T) {
	for _, whose := range []string{"own", "somebody's"} {
		for _, end := range []string{"DEL", "GC"} {
			t.Run(whose+" "+end, func(t *testing.T) {
				h := newHost(t)
				first, second := h.inVLAN(100, nil), h.inVLAN(200, nil)
				if !first.tellsApart() {
					return
				}
				if whose != "own" {
					h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
					h.sh("ip link set br0 type bridge vlan_filtering 1; bridge vlan add vid 50 dev br0 self")
				}
				before := h.snapshot("bridge vlan show; ip -d address show")
				one, two, other := h.vm("vm1"), h.vm("vm2"), h.vm("vm3")
				first.add(one)
				first.add(two)
				second.add(other)
				if got := h.sh("bridge -compressvlans vlan show dev br0 self"); !strings.Contains(got, "100") || !strings.Contains(got, "200") {
					t.Errorf("bridge is in\n%s", got)
				}
				first.remove(one)
				first.holds(two)
				second.holds(other)
				if end == "GC" {
					if err := first.gc(); err != nil {
						t.Fatal(err)
					}
				} else {
					first.remove(two)
				}
				if h.link("br0.100") != nil || h.link("br0.200") == nil {
					t.Errorf("links are %v", h.made())
				}
				if got := h.vlansOf("br0"); strings.Contains(got, "100") {
					t.Errorf("bridge is in VLANs %q", got)
				}
				second.holds(other)
				second.remove(other)
				if end == "GC" {
					first.remove(two)
				}
				before.same(t)
			})
		}
	}
}

// What the configuration no longer names GC finds.
func TestVLANGatewayOfAnotherConfiguration(t *testing.T) {
	h := newHost(t)
	n := h.inVLAN(100, nil)
	if !n.tellsApart() {
		return
	}
	h.bridge("br0", "")
	h.sh("ip link set br0 type bridge vlan_filtering 1")
	v := h.vm("vm1")
	n.add(v)
	n.plugins[1] = n.plugins[1].with(conf{"vlan": 101})
	n.remove(v)
	if err := n.gc(); err != nil {
		t.Fatal(err)
	}
	if got := h.vlansOf("br0"); got != "1 PVID Egress Untagged" {
		t.Errorf("bridge is in VLANs %q", got)
	}
}
