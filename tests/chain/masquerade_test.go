package chain

import (
	"slices"
	"strings"
	"testing"
)

// natBackends are what ipMasq works with.
var natBackends = []string{"nftables", "iptables"}

// both is a gateway for both families.
var both = conf{"ipam": conf{"type": "host-local", "ranges": ranges("10.1.0.0/16", "fd00:1::/64")}}

// masked is a network of both families that is masqueraded.
func (h *host) masked(backend string) *network {
	return h.network("lab", newest, tap, gateway.with(both).with(conf{"ipMasq": true, "ipMasqBackend": backend}))
}

// rules is the rule set, without what counts. That iptables lists its tables
// once makes nft show them from then on.
func (h *host) rules() string {
	h.t.Helper()
	return h.sh("nft -s list ruleset 2>/dev/null; for p in iptables ip6tables; do $p -t nat -S; done")
}

// somebodys are rules of others, in tables of all kinds.
const somebodys = `nft -f - <<'END'
table inet filter {
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr 192.0.2.0/24 drop comment "of somebody"
	}
}
table ip microvm-cni {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 198.51.100.0/24 masquerade comment "microvm-cni: network lab"
	}
}
END
for from in iptables:192.0.2.7 ip6tables:2001:db8::7; do
	p=${from%%:*}
	$p -t nat -N CNI-of-somebody
	$p -t nat -A CNI-of-somebody -j MASQUERADE
	$p -t nat -A POSTROUTING -s ${from#*:} -m comment --comment 'name: "lab" id: "vm1"' -j CNI-of-somebody
done`

// Rules are there as long as the network has a guest, and nobody else's change.
func TestMasqueradeComesAndGoes(t *testing.T) {
	for _, backend := range natBackends {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			h.sh(somebodys)
			before := h.rules()
			n := h.masked(backend)
			one, two := h.vm("vm1"), h.vm("vm2")
			n.add(one)
			first := h.rules()
			if first == before {
				t.Fatal("ADD made no rules")
			}
			n.holds(one)
			n.add(two)
			if rules := h.rules(); (backend == "nftables") != (rules == first) {
				t.Errorf("the second ADD changed %q", without(rules, first))
			}
			n.holds(two)
			n.remove(one)
			n.holds(two)
			n.remove(one)
			n.holds(two)
			n.remove(two)
			if after := h.rules(); after != before {
				t.Errorf("left behind: %s\ngone: %s", without(after, before), without(before, after))
			}
		})
	}
}

// The rules say what they should, in the words of nft and iptables.
func TestMasqueradeRules(t *testing.T) {
	for backend, want := range map[string][]string{
		"nftables": {
			`ip saddr 10.1.0.0/16 ip daddr != 10.1.0.0/16 ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255 masquerade comment "microvm-cni: network lab"`,
			`ip6 saddr fd00:1::/64 ip6 daddr != fd00:1::/64 ip6 daddr != ff00::/8 ip6 daddr != fe80::/10 masquerade comment "microvm-cni: network lab"`,
			"type nat hook postrouting priority srcnat; policy accept;",
		},
		"iptables": {
			`-A POSTROUTING -s 10.1.0.2/32 -m comment --comment "name: \"lab\" id: \"vm1\"" -j CNI-`,
			`-A POSTROUTING -s fd00:1::2/128 -m comment --comment "name: \"lab\" id: \"vm1\"" -j CNI-`,
			`-d 255.255.255.255/32 -m comment --comment "name: \"lab\" id: \"vm1\"" -j ACCEPT`,
			`-d 10.1.0.0/16 -m comment --comment "name: \"lab\" id: \"vm1\"" -j ACCEPT`,
			`! -d ff00::/8 -m comment --comment "name: \"lab\" id: \"vm1\"" -j MASQUERADE`,
		},
	} {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			n := h.masked(backend)
			v := h.vm("vm1")
			n.add(v)
			for _, w := range want {
				if rules := h.rules(); !strings.Contains(rules, w) {
					t.Errorf("no %q in\n%s", w, rules)
				}
			}
			n.remove(v)
		})
	}
}

// CHECK misses each part of the rules, and the next ADD puts it back.
func TestMasqueradeIsRepaired(t *testing.T) {
	for _, test := range []struct {
		name, backend, change string
		words                 []string
	}{
		{"flush", "nftables", "nft flush ruleset", []string{"masquerading of network lab for 10.1.0.0/16 fd00:1::/64 is missing"}},
		{"table", "nftables", "nft delete table inet microvm-cni", []string{"10.1.0.0/16", "fd00:1::/64"}},
		{"chain flushed", "nftables", "nft flush chain inet microvm-cni postrouting", []string{"10.1.0.0/16"}},
		{"asleep", "nftables", "nft add table inet microvm-cni '{ flags dormant; }'", []string{"10.1.0.0/16"}},
		{"one family", "nftables", "nft delete rule inet microvm-cni postrouting handle $(nft -a list ruleset | sed -n 's/.*fd00:1::.*handle //p')", []string{"network lab for fd00:1::/64 is missing"}},
		{"rule that says something else", "nftables", `nft replace rule inet microvm-cni postrouting handle $(nft -a list ruleset | sed -n 's/.*fd00:1::.*handle //p') ip6 saddr fd00:1::/64 accept comment '"microvm-cni: network lab"'`, []string{"network lab for fd00:1::/64 is missing"}},
		{"another hook", "nftables", `nft 'delete chain inet microvm-cni postrouting; add chain inet microvm-cni postrouting { type nat hook output priority 0; }'`, []string{"10.1.0.0/16"}},
		{"iptables flushed", "iptables", "iptables -t nat -F", []string{"network lab for 10.1.0.2/16 is missing"}},
		{"ip6tables flushed", "iptables", "ip6tables -t nat -F", []string{"network lab for fd00:1::2/64 is missing"}},
		{"jump", "iptables", "iptables -t nat -F POSTROUTING", []string{"10.1.0.2/16"}},
		{"chain flushed", "iptables", "iptables -t nat -F $(iptables -t nat -S | sed -n 's/^-N //p')", []string{"10.1.0.2/16"}},
		{"nft flush ruleset", "iptables", "nft flush ruleset", []string{"10.1.0.2/16"}},
	} {
		t.Run(test.backend+" "+test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.masked(test.backend)
			one, two := h.vm("vm1"), h.vm("vm2")
			n.add(one)
			whole := h.rules()
			n.holds(one)
			h.sh(test.change)
			wantError(t, n.check(one), 102, test.words...)
			n.add(two)
			n.holds(two)
			if test.name == "chain flushed" && test.backend == "iptables" {
				// One that is there is not another container's to mend.
				n.remove(one)
				n.add(one)
				n.remove(two)
				whole = h.rules()
			}
			n.holds(one)
			if test.backend == "iptables" { // whose rules are each container's own
				n.remove(two)
			}
			if rules := h.rules(); test.name != "rule that says something else" && without(rules, whole)+without(whole, rules) != "" {
				t.Errorf("repaired to\n%s\nfrom\n%s", rules, whole)
			}
			n.remove(one)
			n.remove(two)
			h.unmasked()
		})
	}
}

// After a flush one ADD brings all guests' rules back, whatever subnets they are in
// and whichever NIC they have.
func TestMasqueradeOfAllIsRepaired(t *testing.T) {
	for _, backend := range natBackends {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			n := h.masked(backend)
			n.plugins[1] = n.plugins[1].with(conf{"isGateway": nil, "ipam": conf{"type": "static"}})
			nicOf := func(id, ifname, ip string) vm {
				v := h.vm(id)
				v.ifname, v.args = ifname, "IP="+ip
				return v
			}
			near, nic, far := nicOf("vm1", "eth0", "10.1.0.2/16"), nicOf("vm1", "eth1", "10.1.0.3/16"), nicOf("vm2", "eth0", "10.1.0.4/16,10.2.0.4/24,fd00:2::4/64")
			last := nicOf("vm3", "eth0", "10.1.0.5/16")
			all := []vm{near, nic, far}
			for _, v := range all {
				n.add(v)
			}
			whole := h.rules()
			h.sh("nft flush ruleset; iptables -t nat -F; ip6tables -t nat -F")
			for _, v := range all {
				wantError(t, n.check(v), 102, "is missing")
			}
			n.add(last)
			for _, v := range append(all, last) {
				n.holds(v)
			}
			n.remove(last)
			if rules := h.rules(); without(rules, whole)+without(whole, rules) != "" {
				t.Errorf("repaired to\n%s\nfrom\n%s", rules, whole)
			}
			for _, v := range all {
				n.remove(v)
			}
			h.unmasked()
		})
	}
}

// A container ID that does not fit into a comment is as good as any.
func TestMasqueradeOfALongID(t *testing.T) {
	for _, backend := range natBackends {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			n := h.masked(backend)
			v, w := h.vm(strings.Repeat("x", 244)), h.vm(strings.Repeat("x", 243)+"y")
			n.add(v)
			n.add(w)
			n.holds(v)
			n.remove(v)
			n.holds(w)
			n.remove(w)
			h.unmasked()
			n.add(v)
			n.forget()
			h.sh("for l in $(ls /sys/class/net | grep mvt-); do ip link del $l; done; rm -rf " + leaseDir)
			if err := n.gc(); err != nil {
				t.Fatal(err)
			}
			h.unmasked()
		})
	}
}

// unmasked fails the test if a rule of ours is left.
func (h *host) unmasked() {
	h.t.Helper()
	if rules := h.rules(); strings.Contains(rules, "microvm-cni") || strings.Contains(rules, "CNI-") {
		h.t.Errorf("left behind:\n%s", rules)
	}
}

// Networks do not touch each other's rules.
func TestMasqueradeOfTwoNetworks(t *testing.T) {
	for _, backend := range natBackends {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			masq := conf{"ipMasq": true, "ipMasqBackend": backend}
			lab, side := h.pair(masq), h.side("br1")
			side.plugins[1] = side.plugins[1].with(masq)
			v := h.vm("vm1")
			lab.add(v)
			only := h.rules()
			side.add(v)
			lab.holds(v)
			lab.remove(v)
			side.holds(v)
			lab.add(v)
			side.remove(v)
			lab.holds(v)
			rules := strings.ReplaceAll(h.rules(), "10.1.0.3", "10.1.0.2") // the lease is a new one
			if left, taken := without(rules, only), without(only, rules); left != "" || taken != "" {
				t.Errorf("the other network left %q, took %q", left, taken)
			}
			lab.remove(v)
			h.unmasked()
		})
	}
}

// Two NICs of one container on one network: the chain of iptables is one.
func TestMasqueradeOfTwoNICs(t *testing.T) {
	for _, backend := range natBackends {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			n := h.masked(backend)
			one, two := h.vm("vm1"), h.vm("vm1")
			two.ifname = "eth1"
			n.add(one)
			n.add(two)
			n.holds(one)
			n.remove(one)
			n.holds(two)
			n.remove(two)
			h.unmasked()
		})
	}
}

// GC ends masquerading with the last attachment, whether a tap tells of it or
// not, and leaves that of the valid ones.
func TestGCOfMasquerade(t *testing.T) {
	for _, backend := range natBackends {
		for name, lost := range map[string]string{
			"one of two": "",
			"taps lost":  "for l in $(ls /sys/class/net | grep mvt-); do ip link del $l; done; rm -rf " + leaseDir,
			"flushed":    "iptables -t nat -F; ip6tables -t nat -F",
		} {
			t.Run(backend+" "+name, func(t *testing.T) {
				h := newHost(t)
				n := h.masked(backend)
				alive, stale := h.vm("alive"), h.vm("stale")
				n.add(alive)
				n.add(stale)
				n.forget()
				if lost == "" {
					before := h.rules()
					if err := n.gc(alive); err != nil {
						t.Fatal(err)
					}
					if rules := h.rules(); (rules == before) != (backend == "nftables") || strings.Contains(rules, "stale") {
						t.Errorf("after GC of one of two:\n%s", rules)
					}
				} else {
					h.sh(lost)
				}
				if err := n.gc(); err != nil {
					t.Fatal(err)
				}
				h.unmasked()
			})
		}
	}
}

// An ADD that fails leaves no rule of its own.
func TestMasqueradeIsRolledBack(t *testing.T) {
	for _, backend := range natBackends {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
			h.sh(somebodys)
			before := h.rules()
			n := h.masked(backend)
			v := h.vm("vm1")
			v.args = "MAC=02:aa:aa:aa:aa:aa" // the bridge's own, which only the last step finds
			_, err := n.tryAdd(v)
			wantError(t, err, 7, "br0", "02:aa:aa:aa:aa:aa")
			if after := h.rules(); after != before {
				t.Errorf("left behind: %s", without(after, before))
			}
			n.remove(v)
		})
	}
}

// A removal that finds nothing, on a host that never masqueraded, makes nothing,
// and a configuration that changed in between does not keep rules.
func TestMasqueradeAfterAChange(t *testing.T) {
	h := newHost(t)
	v := h.vm("vm1")
	plainly := h.pair(nil)
	plainly.add(v)
	plainly.remove(v)
	if rules := h.sh("nft list ruleset"); rules != "" {
		t.Errorf("without ipMasq there are rules:\n%s", rules)
	}
	h.masked("nftables").add(v)
	if err := h.exec(call{plugin: "microvm-bridge", verb: "DEL", vm: v, stdin: plainly.single(1, nil)}); err.exit != 0 {
		t.Errorf("DEL: %s", err.stdout)
	}
	h.unmasked()
	plainly.remove(v)
}

// What somebody emptied goes with the last guest all the same.
func TestEmptiedMasqueradeGoes(t *testing.T) {
	for _, change := range []string{"nft flush chain inet microvm-cni postrouting", "nft delete chain inet microvm-cni postrouting", "nft flush ruleset", ":"} {
		h := newQuietHost(t)
		n := h.masked("nftables")
		one, two := h.vm("vm1"), h.vm("vm2")
		n.add(one)
		n.add(two)
		h.sh(change)
		n.remove(one)
		n.remove(two)
		h.unmasked()
	}
}

// Only joining a bridge is no obstacle.
func TestMasqueradeOnExistingBridge(t *testing.T) {
	h := newHost(t)
	h.bridge("br0", "address 02:aa:aa:aa:aa:aa")
	n := h.pair(conf{"bridgeMode": "existing", "isGateway": nil, "ipMasq": true})
	v, w := h.vm("vm1"), h.vm("vm2")
	n.add(v)
	n.add(w)
	n.holds(v)
	if on := h.sh("sysctl -n net.ipv4.ip_forward"); on != "0\n" {
		t.Errorf("forwarding is %q: nobody asked for it", on)
	}
	n.remove(v)
	n.holds(w)
	n.remove(w)
	h.unmasked()
}

// Guests that come and go at the same time keep their rules.
func TestMasqueradeInParallel(t *testing.T) {
	h := newHost(t)
	n := h.masked("nftables")
	steady := h.vm("steady")
	n.add(steady)
	done := make(chan bool)
	for _, id := range []string{"a", "b", "c", "d"} {
		go func() {
			defer func() { done <- true }()
			for range 3 {
				v := h.vm(id)
				if _, err := n.tryAdd(v); err != nil {
					t.Errorf("ADD %s: %v", id, err)
				}
				if err := n.check(v); err != nil {
					t.Errorf("CHECK %s: %v", id, err)
				}
				if err := n.del(v); err != nil {
					t.Errorf("DEL %s: %v", id, err)
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
	n.holds(steady)
	n.remove(steady)
	h.unmasked()
}

// STATUS misses what the backend needs.
func TestMasqueradeStatus(t *testing.T) {
	t.Parallel()
	for _, backend := range natBackends {
		h := newQuietHost(t)
		n := h.masked(backend)
		if err := n.status(); err != nil {
			t.Errorf("%s: %v", backend, err)
		}
	}
	h := newQuietHost(t)
	n := h.masked("iptables")
	v := h.vm("vm1")
	status := call{plugin: "microvm-bridge", verb: "STATUS", env: []string{"PATH=/nowhere"}, stdin: n.single(1, nil)}
	h.exec(status).refused(t, newest, 50, "iptables")
	r := h.exec(call{plugin: "microvm-tap", verb: "ADD", vm: v, stdin: n.single(0, nil)}).ok(t).object(t)
	add := call{plugin: "microvm-bridge", verb: "ADD", vm: v, env: []string{"PATH=/nowhere"}, stdin: n.single(1, conf{"prevResult": r})}
	h.exec(add).refused(t, newest, 100, "iptables")
	if leases := h.leases("lab"); len(leases) != 0 {
		t.Errorf("leases are %v", leases)
	}
	add.verb = "DEL"
	if a := h.exec(add); a.exit != 0 || a.stdout != "" || !strings.Contains(a.stderr, "rules of network lab, if there are any, stay") || !strings.Contains(a.stderr, "no program iptables") {
		t.Errorf("DEL: exit %d, %q, %q", a.exit, a.stdout, a.stderr)
	}
	n.remove(v)
	if made := h.made(); !slices.Equal(made, nil) {
		t.Errorf("left are %v", made)
	}
}
