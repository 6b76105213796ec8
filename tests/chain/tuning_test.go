package chain

import (
	"strings"
	"testing"
)

// What tuning can do for a tap: it looks for CNI_IFNAME in CNI_NETNS, which is
// the tap only where CNI_NETNS is the host's own namespace. Its CHECK wants the
// device not to be promiscuous, which a bridge's port always is, unless it was
// told to make it so.
func TestTuning(t *testing.T) {
	const mac = "02:00:00:00:00:55"
	for _, test := range []struct {
		name         string
		conf         conf
		args         string
		capabilities map[string]any
		elsewhere    bool   // CNI_NETNS is not the host's
		add, check   string // words of the errors
	}{
		{name: "queue length", conf: conf{"txQLen": 50, "promisc": true}},
		{name: "multicast", conf: conf{"allmulti": true, "promisc": true}},
		{name: "sysctl", conf: conf{"sysctl": conf{"net.ipv4.conf.IFNAME.rp_filter": "0"}, "promisc": true}},
		{name: "without promisc", conf: conf{"txQLen": 50}, check: "configured promisc is false, current value is 1"},
		{name: "mtu", conf: conf{"mtu": 1400, "promisc": true}, check: "eth0: mtu is 1400, expected 1500"},
		{
			name: "IPv6 on the tap", conf: conf{"sysctl": conf{"net.ipv6.conf.IFNAME.disable_ipv6": "0"}, "promisc": true},
			check: "eth0: ipv6 is on, expected off",
		},
		{name: "mac", conf: conf{"mac": mac, "promisc": true}, check: "link/ether is " + mac + ", expected fe:00:00:00:00:55"},
		{name: "mac in CNI_ARGS", conf: conf{"promisc": true}, args: "MAC=" + mac, check: "link/ether is " + mac},
		{
			name: "mac from the runtime", conf: conf{"promisc": true, "capabilities": conf{"mac": true}},
			capabilities: map[string]any{"mac": mac}, check: "link/ether is " + mac,
		},
		{name: "other arguments", conf: conf{"promisc": true}, args: "IgnoreUnknown=1;IP=10.1.0.77"},
		{name: "elsewhere, device", elsewhere: true, conf: conf{"txQLen": 50}, add: `failed to get "eth0": Link not found`},
		{
			name: "elsewhere, sysctl of the device", elsewhere: true, conf: conf{"sysctl": conf{"net.ipv4.conf.IFNAME.rp_filter": "0"}},
			add: "conf/eth0/rp_filter: no such file or directory",
		},
		{
			name: "elsewhere, other sysctl", elsewhere: true, conf: conf{"sysctl": conf{"net.ipv4.ip_default_ttl": "99"}},
			check: "Cannot find container link eth0",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			override(t)
			h := newQuietHost(t)
			n := h.network("lab", newest, tap, gateway, conf{"type": "tuning"}.with(test.conf))
			v := h.vm("vm1")
			v.args, v.capabilities = test.args, test.capabilities
			if !test.elsewhere {
				v.netns = h.Path()
			}
			if _, err := n.tryAdd(v); test.add != "" {
				wantPeerError(t, err, test.add)
			} else if err != nil {
				t.Errorf("ADD: %v", err)
			} else if err = n.check(v); test.check != "" {
				wantPeerError(t, err, test.check)
			} else if err != nil {
				t.Errorf("CHECK: %v", err)
			}
			if l := h.link("eth0"); l != nil && test.name == "queue length" && l.TxQueue != 50 {
				t.Errorf("the queue is %d packets long", l.TxQueue)
			}
			if ttl := h.sh("cat /proc/sys/net/ipv4/ip_default_ttl"); strings.TrimSpace(ttl) == "99" {
				t.Error("a sysctl of the host was set")
			}
			n.remove(v)
		})
	}
}

// Before microvm-bridge, which notices in time, tuning can give the tap the
// guest's MAC address just as well.
func TestTuningOfTheMACBeforeOurs(t *testing.T) {
	override(t)
	h := newQuietHost(t)
	n := h.network("lab", newest, tap, conf{"type": "tuning", "mac": "02:00:00:00:00:55"}, gateway)
	v := h.vm("vm1")
	v.netns = h.Path()
	_, err := n.tryAdd(v)
	wantError(t, err, 7, "02:00:00:00:00:55", "that of tap eth0 itself")
	n.remove(v)
}

// tuning reads CNI_ARGS, knows MAC alone, and fails at DEL too: libcni then
// stops, and ours are not reached.
func TestTuningRefusesArguments(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, gateway, conf{"type": "tuning"})
	v := h.vm("vm1")
	v.args = "TAP_NAME=vmtap"
	_, err := n.tryAdd(v)
	wantPeerError(t, err, `ARGS: unknown args ["TAP_NAME=vmtap"]`)
	wantPeerError(t, n.del(v), `ARGS: unknown args ["TAP_NAME=vmtap"]`)
	v.args = ""
	n.remove(v)
}

// What cannot work says so at ADD. Taken out of the conflist it is not in the
// way of a DEL.
func TestPeersThatCannotWork(t *testing.T) {
	limit := conf{"egressRate": 1000000, "egressBurst": 1000000}
	for _, test := range []struct {
		name         string
		conf         conf
		capabilities map[string]any
		own          bool // CNI_NETNS is the host's
		words        string
	}{
		{"bandwidth", conf{"type": "bandwidth"}.with(limit), nil, false, "container interface eth0 has no veth peer"},
		{"bandwidth on the tap", conf{"type": "bandwidth"}.with(limit), nil, true, `interface "eth0" was not a veth interface`},
		{
			"bandwidth that a runtime asks for",
			conf{"type": "bandwidth", "capabilities": conf{"bandwidth": true}},
			map[string]any{"bandwidth": limit},
			false, "container interface eth0 has no veth peer",
		},
		{"sbr", conf{"type": "sbr"}, nil, false, "Cannot find network interface eth0"},
		{"sbr on the tap", conf{"type": "sbr"}, nil, true, "Failed to add default route to 10.1.0.1"},
		{"vrf", conf{"type": "vrf", "vrfname": "red"}, nil, false, "cmdAdd failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			override(t)
			h := newQuietHost(t)
			n := h.network("lab", newest, tap, gateway, test.conf)
			v := h.vm("vm1")
			v.capabilities = test.capabilities
			if test.own {
				v.netns = h.Path()
			}
			_, err := n.tryAdd(v)
			wantPeerError(t, err, test.words)
			_ = n.del(v) // vrf fails, too, on a kernel that has VRFs, and leaves what it made
			h.sh("ip -n guests link del red 2>/dev/null || true")
			n.plugins = n.plugins[:2]
			n.remove(v)
		})
	}
}

// Without a limit bandwidth passes ADD, and fails CHECK.
func TestIdleBandwidth(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, gateway, conf{"type": "bandwidth", "capabilities": conf{"bandwidth": true}})
	v := h.vm("vm1")
	n.add(v)
	wantPeerError(t, n.check(v), "container interface eth0 has no veth peer")
	n.remove(v)
}
