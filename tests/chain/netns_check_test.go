package chain

import (
	"strings"
	"testing"
)

// CHECK names what is no longer as ADD promised, on both sides, and DEL cleans up all
// the same.
func TestNetnsCheckGoesRed(t *testing.T) {
	for _, test := range []struct {
		name   string
		change string // for tamper; PORT, INNER and TAP are the names, NS runs ip inside
		words  []string
	}{
		{"port deleted", "ip link del PORT", []string{"PORT", "link is none", "INNER"}},
		{"port un-enslaved", "ip link set PORT nomaster", []string{"PORT", "master is none"}},
		{"port down", "ip link set PORT down", []string{"PORT", "up is off"}},
		{"port's MTU", "ip link set PORT mtu 1400", []string{"PORT", "mtu is 1400"}},
		{"port's alias", "ip link set PORT alias ''", []string{"PORT", "alias is"}},
		{"port's handle", "ip link property del dev PORT altname $(ip -d link show PORT | grep -o 'microvm-bridge[.].*')", []string{"PORT", "altname"}},
		{"IPv6 on the port", "sysctl -qw net.ipv6.conf.PORT.disable_ipv6=0", []string{"PORT", "ipv6 is on"}},
		{"isolation", "ip link set PORT type bridge_slave isolated off", []string{"PORT", "isolated is off"}},
		{"limit of the port", "tc filter del dev PORT egress", []string{"PORT", "to guest none"}},
		{"inner end down", "NS link set INNER down", []string{"INNER", "up is off"}},
		{"inner end's MTU", "NS link set INNER mtu 1400", []string{"INNER", "mtu is 1400"}},
		{"inner end renamed", "NS link set INNER down; NS link set INNER name other; NS link set other up", []string{"INNER", "link is none", "splice is none"}},
		{"tap deleted", "NS link del TAP", []string{"TAP", "link is none"}},
		{"tap down", "NS link set TAP down", []string{"TAP", "up is off"}},
		{"tap's MTU", "NS link set TAP mtu 1400", []string{"TAP", "mtu is 1400"}},
		{"tap's MAC", "NS link set TAP address 02:99:99:99:99:99", []string{"TAP", "link/ether is 02:99:99:99:99:99"}},
		{"tap on a bridge", "NS link add br9 type bridge; NS link set TAP master br9", []string{"TAP", "master is br9"}},
		{"tap's handle", "NS link property del dev TAP altname $(NS -d link show TAP | grep -o 'microvm-tap[.].*')", []string{"TAP", "altname"}},
		{"program at the tap", "DETACH guests TAP ingress", []string{"TAP", "splice is none"}},
		{"program at the inner end", "DETACH guests INNER ingress", []string{"TAP", "splice is none"}},
		{"both programs", "DETACH guests TAP ingress; DETACH guests INNER ingress", []string{"TAP", "splice is none"}},
		{"another in its place", "FORGE guests TAP ingress", []string{"TAP", "splice is none"}},
		{"namespace deleted", "ip netns del guests", []string{"/run/netns/guests"}},
		{"namespace that is none", "umount /run/netns/guests", []string{"/run/netns/guests", "not a network namespace"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.away(limitAll.with(conf{"portIsolation": true}))
			v := h.vm("vm1")
			r := n.add(v)
			n.holds(v)
			names := strings.NewReplacer("PORT", r.Interfaces[3].Name, "TAP", v.tapOf(r), "INNER", h.innerEnd(), "NS ", "ip -n guests ")
			h.tamper(names.Replace(test.change))
			var words []string
			for _, w := range test.words {
				words = append(words, names.Replace(w))
			}
			wantError(t, n.check(v), 102, words...)
			switch test.name {
			case "port deleted", "inner end renamed", "tap deleted", "namespace deleted", "namespace that is none":
				wantError(t, n.repair(v), 102, words...)
			case "another in its place":
				// At tcx there is room for both; of filters one has the preference.
				if strings.Contains(h.sh("tc -n guests filter show dev "+v.tapOf(r)+" ingress"), "u32") {
					wantError(t, n.repair(v), 101, "priority is taken", v.tapOf(r))
				} else {
					n.isRepaired(v)
				}
			default:
				n.isRepaired(v)
			}
			h.sh("ip -n guests link del br9 2>/dev/null || true")
			n.remove(v)
			if !strings.Contains(test.name, "namespace") {
				h.empty()
			}
			h.sh("umount -l /run/netns/guests || true; rm -f /run/netns/guests")
			h.NewNetns("guests")
		})
	}
}

// innerEnd is the name of the one inner end in the VMM's namespace.
func (h *host) innerEnd() string {
	h.t.Helper()
	for _, l := range h.inside() {
		if strings.HasPrefix(l.Name, "mvi-") {
			return l.Name
		}
	}
	h.t.Fatal("no inner end in the VMM's namespace")
	return ""
}
