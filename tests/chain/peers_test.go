package chain

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// override makes plugins that are not ours accept a CNI_NETNS that is their own
// namespace. The environment is the process's: the test cannot run beside others.
func override(t *testing.T) {
	t.Helper()
	t.Setenv("CNI_NETNS_OVERRIDE", "1")
}

// dual is a gateway in both families.
var dual = gateway.with(conf{"ipam": conf{"type": "host-local", "ranges": ranges("10.1.0.0/16", "fd00:1::/64")}})

// ruleset prints all packet filter rules of the host, less counters and times.
const ruleset = `for family in iptables ip6tables; do $family-save | sed '/^#/d; s/\[[0-9:]*\]//'; done; nft list ruleset 2>/dev/null | sed 's/counter packets [0-9]* bytes [0-9]*//'`

// mentions fails the test unless the rules do, or do not, hold the words.
func (h *host) mentions(want bool, words ...string) {
	h.t.Helper()
	rules := h.sh(ruleset)
	for _, word := range words {
		if strings.Contains(rules, word) != want {
			h.t.Errorf("the rules mention %s: %v, want %v\n%s", word, !want, want, rules)
		}
	}
}

// clearRules removes all rules, as an administrator might.
func (h *host) clearRules() {
	h.t.Helper()
	h.sh("for f in iptables ip6tables; do for t in nat filter; do $f -t $t -F; done; done; nft flush ruleset")
}

// web is one mapped port.
func web(hostPort int) map[string]any {
	return map[string]any{"portMappings": []conf{{"hostPort": hostPort, "containerPort": 80, "protocol": "tcp"}}}
}

// mapped is a VM with a port of the host's: in a namespace of its own or, with
// own, in the host's.
func (h *host) mapped(id string, own bool, hostPort int) vm {
	v := h.vm(id)
	v.ifname = "nic" + id
	v.capabilities = web(hostPort)
	if own {
		v.netns = h.Path()
	}
	return v
}

// portmap finds the guest's addresses, in both families, and takes its rules
// away again, whatever the tap is called.
func TestPortmap(t *testing.T) {
	for _, backend := range []string{"iptables", "nftables"} {
		for _, own := range []bool{false, true} {
			name := backend + ", CNI_NETNS is the guest's own"
			if own {
				name = backend + ", CNI_NETNS is the host's"
			}
			t.Run(name, func(t *testing.T) {
				if own {
					override(t)
				}
				h := newQuietHost(t)
				n := h.network("lab", newest, tap, dual, conf{"type": "portmap", "backend": backend, "capabilities": conf{"portMappings": true}})
				stays, goes := h.mapped("a", own, 8081), h.mapped("b", own, 8082)
				n.add(stays)
				before := h.snapshot(ruleset)

				r := n.add(goes)
				h.mentions(true, "8082", r.IPs[0].Address.IP.String()+":80", "["+r.IPs[1].Address.IP.String()+"]:80")
				n.holds(goes)
				n.remove(goes)
				before.same(t)
				n.holds(stays)

				h.clearRules()
				if err := n.check(stays); err == nil {
					t.Error("CHECK does not miss the rules")
				}
				n.remove(stays)
				h.mentions(false, "8081", "8082")
			})
		}
	}
}

// firewall accepts what comes from the guest, and the answers.
func TestFirewall(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, dual, conf{"type": "firewall", "backend": "iptables", "ingressPolicy": "same-bridge"})
	stays, goes := h.vm("vm1"), h.vm("vm2")
	n.add(stays)
	before := h.snapshot(ruleset)
	h.mentions(true, "CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT", "CNI-FORWARD -s fd00:1::2/128 -j ACCEPT", "CNI-ISOLATION-STAGE-1 -i br0 ! -o br0")

	n.add(goes)
	h.mentions(true, "CNI-FORWARD -s 10.1.0.3/32 -j ACCEPT", "CNI-FORWARD -s fd00:1::3/128 -j ACCEPT")
	n.holds(goes)
	n.remove(goes)
	before.same(t)
	n.holds(stays)

	h.clearRules()
	if err := n.check(stays); err == nil {
		t.Error("CHECK does not miss the rules")
	}
	n.remove(stays)
	h.mentions(false, "10.1.0.2")
}

// What peers answer is what we answered.
func TestPeersPassTheResultOn(t *testing.T) {
	h := newHost(t)
	v := h.mapped("a", false, 8081)
	v.args = "IP=10.1.0.77"
	n := h.pair(nil)
	alone := n.add(v)
	n.remove(v)
	n.plugins = append(n.plugins, conf{"type": "portmap", "capabilities": conf{"portMappings": true}}, conf{"type": "firewall", "backend": "iptables"})
	chained := n.add(v)
	alone.Interfaces[0].Mac = chained.Interfaces[0].Mac // a new bridge has a new one
	if want, got := (conf{"r": alone}).json(), (conf{"r": chained}).json(); got != want {
		t.Errorf("result is\n%s\nwant\n%s", got, want)
	}
	n.holds(v)
	n.remove(v)
}

// Peers that need the guest's addresses come after microvm-bridge: before it
// they do nothing, and say nothing.
func TestPeersBeforeOurs(t *testing.T) {
	h := newHost(t)
	h.sh("iptables -N theirs") // so that there are rules to compare
	before := h.snapshot(ruleset)
	portmap := conf{"type": "portmap", "backend": "iptables", "capabilities": conf{"portMappings": true}}
	v := h.mapped("a", false, 8081)
	n := h.network("lab", newest, tap, portmap, conf{"type": "firewall", "backend": "iptables"}, dual)
	n.add(v)
	h.mentions(false, "8081", "10.1.0.2")
	before.same(t)
	n.remove(v)

	n = h.network("lab", newest, portmap, tap, dual)
	_, err := n.tryAdd(v)
	wantPeerError(t, err, "must be called as chained plugin")
	n.remove(v)
}

// wantPeerError fails the test unless err holds the words.
func wantPeerError(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v, want one about %q", err, words)
	}
}

// In the host's own namespace a plugin of others works only if it is told that
// this is meant.
func TestPeersInTheHostsNamespace(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, gateway, conf{"type": "firewall", "backend": "iptables"})
	v := h.vm("vm1")
	v.netns = h.Path()
	_, err := n.tryAdd(v)
	wantPeerError(t, err, "plugin's netns and netns from CNI_NETNS should not be the same")
	wantPeerError(t, n.del(v), "plugin's netns and netns from CNI_NETNS should not be the same")
	n.plugins = n.plugins[:2]
	n.remove(v)
}

// What a peer needs at DEL, and leaves behind without it.
func TestPeersLeaveRulesBehind(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", newest, tap, gateway,
		conf{"type": "portmap", "backend": "iptables", "capabilities": conf{"portMappings": true}}, conf{"type": "firewall", "backend": "iptables"})
	v := h.mapped("a", false, 8081)
	n.add(v)
	forgetful := v
	forgetful.capabilities = nil
	n.remove(forgetful)
	h.mentions(true, "8081")
	h.mentions(false, "-s 10.1.0.2/32")
	n.remove(v) // a second DEL, with the capability
	h.mentions(false, "8081")

	n.add(v)
	n.forget()
	n.remove(v)
	h.mentions(false, "8081")
	h.mentions(true, "-s 10.1.0.3/32")

	n.add(v)
	if err := n.gc(); err != nil { // the runtime remembers the capability
		t.Error(err)
	}
	h.mentions(false, "8081", "-s 10.1.0.4/32")
}

// portmap knows a VM by its container ID alone: the ports of all its NICs on a
// network go with the first NIC that goes.
func TestPortmapOfTwoNICs(t *testing.T) {
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", newest, tap, gateway, conf{"type": "portmap", "backend": backend, "capabilities": conf{"portMappings": true}})
			first, second := h.mapped("a", false, 8081), h.mapped("a", false, 8082)
			second.ifname = "second"
			n.add(first)
			n.add(second)
			h.mentions(true, "8081", "8082")
			n.holds(first)
			n.remove(second)
			h.mentions(false, "8081", "8082")
			if err := n.check(first); err == nil {
				t.Error("CHECK does not miss the first NIC's port")
			}
			n.remove(first)
		})
	}
}

// firewall refuses versions that microvm-bridge still knows, at DEL too.
func TestFirewallNeedsNewerVersion(t *testing.T) {
	h := newHost(t)
	n := h.network("lab", "0.3.1", tap, gateway, conf{"type": "firewall"})
	v := h.vm("vm1")
	_, err := n.tryAdd(v)
	wantPeerError(t, err, "incompatible CNI versions")
	wantPeerError(t, n.del(v), "incompatible CNI versions")
	n.plugins = n.plugins[:2]
	n.remove(v)
}

// CHECK does not mind what later plugins add to the result.
func TestCheckOfALongerResult(t *testing.T) {
	for _, own := range []bool{false, true} {
		h := newQuietHost(t)
		n := h.pair(nil)
		v := h.vm("vm1")
		if own {
			v.netns = h.Path()
		}
		r := n.add(v)
		r.Interfaces = append(r.Interfaces, &types100.Interface{Name: "bwp0", Mac: "02:00:00:00:00:01"})
		r.IPs = append(r.IPs, &types100.IPConfig{Address: r.IPs[0].Address, Gateway: net.IPv4(192, 0, 2, 1), Interface: new(len(r.Interfaces) - 1)})
		r.Routes = append(r.Routes, &types.Route{Dst: r.IPs[0].Address})
		r.DNS.Nameservers = []string{"192.0.2.53"}
		for i, p := range n.plugins {
			h.exec(call{plugin: fmt.Sprint(p["type"]), verb: "CHECK", vm: v, stdin: n.single(i, conf{"prevResult": r})}).silent(t)
		}
		n.remove(v)
	}
}
