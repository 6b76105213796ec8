package chain

import (
	"slices"
	"strings"
	"testing"
)

// CHECK names what is no longer as ADD promised, and DEL cleans up all the same.
func TestCheckGoesRed(t *testing.T) {
	for _, test := range []struct {
		name   string
		change string // a shell script; TAP is the tap's name
		words  []string
	}{
		{"tap deleted", "ip link del TAP", []string{"TAP", "link is none"}},
		{"tap un-enslaved", "ip link set TAP nomaster", []string{"TAP", "master is none", "br0"}},
		{"tap on another bridge", "ip link add br9 type bridge && ip link set TAP master br9", []string{"TAP", "master is br9"}},
		{"tap down", "ip link set TAP down", []string{"TAP", "up is off"}},
		{"tap renamed", "ip link set TAP down && ip link set TAP name other && ip link set other up", []string{"TAP: name is other, expected TAP"}},
		{"MTU", "ip link set TAP mtu 1400", []string{"TAP", "mtu is 1400", "1500"}},
		{"MAC", "ip link set TAP address 02:99:99:99:99:99", []string{"TAP", "link/ether is 02:99:99:99:99:99"}},
		{"alias", "ip link set TAP alias ''", []string{"TAP", "alias is"}},
		{"queue length", "ip link set TAP txqueuelen 77", []string{"TAP", "qlen is 77", "500"}},
		{"isolation", "ip link set TAP type bridge_slave isolated off", []string{"TAP", "isolated is off"}},
		{"hairpin", "ip link set TAP type bridge_slave hairpin on", []string{"TAP", "hairpin is on"}},
		{"tap's handle", "ip link property del dev TAP altname $(ip -d link show TAP | grep -o 'microvm-tap[.].*')", []string{"TAP", "altname"}},
		{"port's handle", "ip link property del dev TAP altname $(ip -d link show TAP | grep -o 'microvm-bridge[.].*')", []string{"TAP", "altname"}},
		{"IPv6 on the tap", "sysctl -qw net.ipv6.conf.TAP.disable_ipv6=0", []string{"TAP", "ipv6 is on"}},
		{"router advertisements on the tap", "sysctl -qw net.ipv6.conf.TAP.accept_ra=1", []string{"TAP", "accept_ra is on"}},
		{"IPv4 gateway", "ip addr del 10.1.0.1/16 dev br0", []string{"br0", "10.1.0.1/16"}},
		{"IPv6 gateway", "ip addr del fd00:1::1/64 dev br0", []string{"br0", "fd00:1::1/64"}},
		{"bridge deleted", "ip link del br0", []string{"br0", "link is none"}},
		{"bridge down", "ip link set br0 down", []string{"br0", "up is off"}},
		{"bridge's MAC", "ip link set br0 address 02:99:99:99:99:99", []string{"br0", "link/ether"}},
		// Before version 1.1.0 no result holds an MTU: the tap is held against the bridge.
		{"bridge's MTU", "ip link set br0 mtu 1600", []string{"mtu is", "1500", "1600"}},
		{"bridge's ARP", "sysctl -qw net.ipv4.conf.br0.arp_ignore=0", []string{"br0", "arp_ignore is off"}},
		{"promiscuous bridge", "ip link set br0 promisc on", []string{"br0", "promisc is on"}},
		{"IPv4 forwarding", "sysctl -qw net.ipv4.ip_forward=0", []string{"net.ipv4.ip_forward is 0"}},
		{"IPv6 forwarding", "sysctl -qw net.ipv6.conf.all.forwarding=0", []string{"net.ipv6.conf.all.forwarding is 0"}},
		// host-local looks for any lease of the attachment, of whatever family.
		{"lease", "rm " + leaseDir + "/lab/10.1.0.2 " + leaseDir + "/lab/fd00:1::2", []string{"host-local"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, version := range since("0.4.0") {
				t.Run(version, func(t *testing.T) {
					h := newHost(t)
					h.mine = append(h.mine, "br9")
					ipam := conf{"type": "host-local", "ranges": ranges("10.1.0.0/16", "fd00:1::/64")}
					n := h.network("lab", version, tap.with(conf{"txQueueLen": 500}), gateway.with(conf{"portIsolation": true, "ipam": ipam}))
					v := h.vm("vm1")
					name := v.tapOf(n.add(v))
					n.holds(v)
					h.sh(strings.ReplaceAll(test.change, "TAP", name))
					var words []string
					for _, w := range test.words {
						words = append(words, strings.ReplaceAll(w, "TAP", name))
					}
					code := uint(102)
					if test.name == "lease" {
						code = 11
					}
					wantError(t, n.check(v), code, words...)
					if slices.Contains([]string{"tap deleted", "tap renamed", "bridge deleted", "lease"}, test.name) {
						wantError(t, n.repair(v), code, words...)
					} else {
						n.isRepaired(v)
					}
					n.remove(v)
					h.empty()
				})
			}
		})
	}
}

// isRepaired fails the test unless a CHECK that is red becomes green by repair, and
// stays so.
func (n *network) isRepaired(v vm) {
	n.h.t.Helper()
	if err := n.repair(v); err != nil {
		n.h.t.Errorf("repair: %v", err)
	}
	n.holds(v)
}

// A promiscuous bridge that was asked for is missed when it is not any more.
func TestCheckPromiscuousMode(t *testing.T) {
	h := newHost(t)
	n := h.pair(conf{"promiscMode": true})
	v := h.vm("vm1")
	n.add(v)
	n.holds(v)
	h.sh("ip link set br0 promisc off")
	wantError(t, n.check(v), 102, "br0", "promisc is off")
	n.remove(v)
}

// CHECK of an attachment does not mind what others do on the bridge, nor what
// later plugins of the chain add.
func TestCheckTolerates(t *testing.T) {
	h := newHost(t)
	h.fake("later", `if [ "$CNI_COMMAND" = ADD ]; then
  printf '%s' "$conf" | sed 's/.*"prevResult"://; s/,"type":"later"}$//; s/"ips":\[/"ips":[{"address":"203.0.113.5\/32"},/'
fi`)
	n := h.network("lab", newest, tap, gateway, conf{"type": "later"})
	one, two := h.vm("vm1"), h.vm("vm2")
	r := n.add(one)
	if len(r.IPs) != 3 {
		t.Fatalf("the later plugin's address is not in %v", r.IPs)
	}
	name := one.tapOf(r)
	n.add(two)
	h.sh("ip addr add 192.0.2.1/24 dev br0; ip link property add dev " + name + " altname guest-of-somebody; tc filter add dev " + name + " egress pref 7 protocol ip u32 match ip dst 198.51.100.99/32")
	n.holds(one)
	n.holds(two)
	n.remove(two)
	n.holds(one)
	n.remove(one)
}

// A lease is only the delegate's business where CHECK is delegated at all.
func TestCheckOfDelegateSwitchedOff(t *testing.T) {
	h := newHost(t)
	n := h.pair(conf{"ipamCheck": false})
	v := h.vm("vm1")
	n.add(v)
	h.sh("rm " + leaseDir + "/lab/10.1.0.2")
	n.holds(v)
	n.remove(v)
}
