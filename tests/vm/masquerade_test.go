package vm

import (
	"context"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// outside is a service beyond the host that has no route back to the guests.
func (l *lab) outside() {
	l.t.Helper()
	l.NewNetns("outside")
	l.sh(`ip link add wan0 type veth peer name eth0 netns outside
ip address add 203.0.113.1/24 dev wan0; ip address add 2001:db8::1/64 dev wan0 nodad; ip link set wan0 up
ip -n outside address add 203.0.113.2/24 dev eth0; ip -n outside address add 2001:db8::2/64 dev eth0 nodad; ip -n outside link set eth0 up`)
}

var services = []string{"203.0.113.2", "2001:db8::2"}

// A guest reaches a service that has no route back to it: with ipMasq only, and
// again after somebody flushed the rules and the next guest came.
func TestGuestsReachBeyondNAT(t *testing.T) {
	for _, backend := range []string{"", "nftables", "iptables"} {
		t.Run("backend "+backend, func(t *testing.T) {
			l := newLab(t, nil, keys{"ipMasq": backend != "", "ipMasqBackend": backend})
			l.outside()
			v := l.add("vm1")
			g := l.boot(v, 1)
			for i := range v.ips {
				g.MustRun(ping(v.gateways[i]))
				out, status := g.Run("ping -c 2 -i 0.2 -W 2 " + services[i])
				if (status == 0) != (backend != "") {
					t.Errorf("ping %s with backend %q: exit status %d\n%s", services[i], backend, status, out)
				}
			}
			l.check(v)
			if backend != "" {
				l.flushed(v, g)
			}
			g.Close()
			l.del(v)
			l.sh("ip link del wan0")
			if rules := l.sh("nft list ruleset 2>/dev/null"); strings.Contains(rules, "microvm-cni") || strings.Contains(rules, "CNI-") {
				t.Errorf("left behind:\n%s", rules)
			}
		})
	}
}

// flushed takes the rules away from under a guest and brings them back.
func (l *lab) flushed(v *vm, g *guest.Guest) {
	l.t.Helper()
	l.sh("nft flush ruleset")
	for _, service := range services {
		if out, status := g.Run("ping -c 1 -W 1 " + service); status == 0 {
			l.t.Errorf("the guest reaches %s without rules:\n%s", service, out)
		}
	}
	l.do("CHECK", func() error {
		err := l.cni.CheckNetworkList(context.Background(), l.list, v.rt)
		if err == nil || !strings.Contains(err.Error(), "masquerading of network lab for 10.7.0.") || !strings.Contains(err.Error(), "is missing") {
			l.t.Errorf("CHECK after a flush: %v", err)
		}
		return nil
	})
	next := l.add("vm2")
	l.check(v)
	for _, service := range services {
		g.MustRun(ping(service))
	}
	l.del(next)
	l.check(v)
}
