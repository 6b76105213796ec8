package chain

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// bridgeRepairs calls CHECK of the bridge plugin alone: in the chain that of the tap
// plugin comes before it, and ends it.
func (a *arena) bridgeRepairs() answer {
	a.t.Helper()
	v := a.v
	v.args = strings.Trim(v.args+";REPAIR=1", ";")
	return a.h.exec(call{plugin: "microvm-bridge", verb: "CHECK", vm: v, stdin: a.n.single(1, conf{"prevResult": a.previous()})})
}

// withoutCarrier leaves out what follows the carrier, some time after it, and timers.
const withoutCarrier = ` | sed -E 's/NO-CARRIER,//; s/ state [A-Za-z]+ / /g; s/_timer +[0-9.]+//g'`

// A tap that has the name by now, but is somebody else's, is not taken over by a
// repair, and so not deleted by a DEL.
func TestRepairTakesNobodysTap(t *testing.T) {
	for _, c := range []struct {
		name string
		tap  conf
		make string // a shell script; TAP is the tap's name
		show string
	}{
		{
			"somebody's", tap,
			"ip link del TAP; ip link add br7 type bridge; ip tuntap add TAP mode tap; ip link set TAP alias his address 02:77:77:77:77:77 mtu 1400 master br7 up",
			"ip -d -o link show TAP" + withoutCarrier,
		},
		{"another guest's", tap, "ip link del TAP; ip link set OTHER down; ip link set OTHER name TAP; ip link set TAP up", "ip -d -o link show TAP" + withoutCarrier},
		{
			"in another namespace at the path", awayTap,
			"ip netns del guests; ip netns add guests; ip -n guests link add br7 type bridge; ip -n guests tuntap add TAP mode tap; ip -n guests link set TAP alias his mtu 1400 master br7 up",
			"ip -n guests -d -o link show TAP" + withoutCarrier,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.mine = append(h.mine, "br7", "tap0")
			n := h.network("lab", newest, c.tap, gateway)
			a := &arena{t: t, h: h, n: n, v: h.vm("vm1")}
			one, two := &a.v, h.vm("vm2")
			one.args = "TAP_NAME=tap0"
			name := one.tapOf(n.add(*one))
			other := "none"
			if strings.Contains(c.make, "OTHER") {
				other = two.tapOf(n.add(two))
			}
			names := strings.NewReplacer("TAP", name, "OTHER", other)
			h.sh(names.Replace(c.make))
			before := h.sh(names.Replace(c.show))
			wantError(t, n.repair(*one), 102, name)
			said := "somebody else's"
			if c.tap["placement"] != nil { // the port went with the namespace, and nothing is done without
				said = "link is none"
			}
			if got := a.bridgeRepairs(); got.exit == 0 || !strings.Contains(got.stdout, `"code": 102`) || !strings.Contains(got.stdout, said) {
				t.Errorf("CHECK of microvm-bridge: exit %d, %s", got.exit, got.stdout)
			}
			if after := h.sh(names.Replace(c.show)); after != before {
				t.Errorf("repaired to\n%s\nfrom\n%s", after, before)
			}
			n.remove(*one)
			if after := h.sh(names.Replace(c.show)); after != before {
				t.Errorf("after DEL there is\n%s\nand was\n%s", after, before)
			}
			if other != "none" {
				n.remove(two)
			}
			for _, at := range []string{"ip", "ip -n guests"} {
				h.sh(at + " link del " + name + " 2>/dev/null || true; " + at + " link del br7 2>/dev/null || true")
			}
		})
	}
}

// What a repair cannot put right keeps nothing else from being so; a port without its
// guard does not come onto the bridge.
func TestRepairGoesOn(t *testing.T) {
	const before = "tc filter add dev PORT ingress protocol all pref 5 u32 match u32 0 0 flowid 1:1; "
	const flags = "ip link set PORT type bridge_slave learning on flood on; sysctl -qw net.ipv4.ip_forward=0; "
	for _, c := range []struct {
		name, change string
		code         uint
		left, right  []string
	}{
		{
			"state", "tc filter del dev PORT ingress pref 10; " + flags + "bridge link set dev PORT state disabled; ip link set br0 type bridge stp_state 1",
			100,
			[]string{"state is disabled"},
			[]string{"guard", "learning", "flood", "ip_forward"},
		},
		{"guard", "tc filter del dev PORT ingress pref 10; " + before + flags, 101, []string{"guard is off"}, []string{"learning", "flood", "ip_forward"}},
		{
			"guard of a port that is down", "ip link set PORT down; tc filter del dev PORT ingress pref 10; " + before + flags,
			101,
			[]string{"guard is off", "up is off"},
			[]string{"learning", "flood", "ip_forward"},
		},
		{
			"guard of a port that is nowhere", flags + "ip link set PORT nomaster mtu 1400; tc filter del dev PORT ingress pref 10; " + before,
			101,
			[]string{"guard is off", "master is none"},
			[]string{"ip_forward", "mtu", "up is off"},
		},
	} {
		for placement, tap := range placements {
			t.Run(placement+" "+c.name, func(t *testing.T) {
				a := newArena(t, tap, nil, neighbourOf)
				a.h.sh(strings.ReplaceAll(c.change, "PORT", a.port))
				wantError(t, a.n.repair(a.v), c.code, a.port)
				err := a.n.check(a.v)
				wantError(t, err, 102, c.left...)
				for _, word := range c.right {
					if text := fmt.Sprint(err); strings.Contains(text, word) {
						t.Errorf("%s is not put right: %s", word, text)
					}
				}
				a.h.sh("ip link set br0 type bridge stp_state 0; tc filter del dev " + a.port + " ingress pref 5 2>/dev/null || true")
				a.n.isRepaired(a.v)
			})
		}
	}
}

// A repair in the midst of a DEL does not undo it, whoever made the tap.
func TestRepairBesideDEL(t *testing.T) {
	for name, own := range map[string]bool{"own tap": true, "somebody's tap": false} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.mine = append(h.mine, "tap0")
			h.bridge("br0", "")
			before := tap
			if !own {
				h.tap("tap0")
				h.fake("other-tap", `[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","interfaces":[{"name":"tap0"}]}'`)
				before = conf{"type": "other-tap"}
			}
			// DEL calls the delegate when the port is off its bridge, and is not forgotten yet.
			h.fake("beside", `case "$CNI_COMMAND" in
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.9/16","gateway":"10.1.0.1"}]}' ;;
DEL) [ ! -e /run/check ] || CNI_COMMAND=CHECK CNI_ARGS=REPAIR=1 "`+bin+`/microvm-bridge" < /run/check > /run/repaired || true ;;
esac`)
			n := h.network("lab", newest, before, gateway.with(conf{"ipam": conf{"type": "beside"}}))
			a := &arena{t: t, h: h, n: n, v: h.vm("vm1")}
			name := "tap0"
			if r := n.add(a.v); own {
				name = a.v.tapOf(r)
			}
			h.sh("cat > /run/check <<'END'\n" + a.n.single(1, conf{"prevResult": a.previous()}) + "\nEND")
			del := a.h.exec(call{plugin: "microvm-bridge", verb: "DEL", vm: a.v, stdin: a.n.single(1, nil)})
			if del.exit != 0 {
				t.Errorf("DEL: %s%s", del.stdout, del.stderr)
			}
			wants := []string{"left so", "master is none"}
			for _, when := range []string{"in the midst", "after it"} {
				for _, w := range wants {
					if said := h.sh("cat /run/repaired"); !strings.Contains(said, w) {
						t.Errorf("%s CHECK says %s", when, said)
					}
				}
				if l := h.link(name); l == nil || l.Master != "" || l.up() {
					t.Errorf("%s the port is %+v", when, l)
				}
				h.sh("echo > /run/repaired")
				again := a.bridgeRepairs()
				h.sh("cat > /run/repaired <<'END'\n" + again.stdout + "\nEND")
				if !own {
					wants[0] = "somebody else's"
				}
			}
			h.sh("rm /run/check /run/repaired")
			n.remove(a.v)
		})
	}
}

// A prevResult that is out of date does not give a guest what is another guest's by now.
func TestRepairGivesNobodysAddress(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			h := newHost(t)
			h.bridge("br0", "")
			a := &arena{t: t, h: h, n: h.network("lab", newest, tap, gateway.with(conf{"ipam": conf{"type": "static"}})), v: h.vm("guest")}
			first := station{"guest", frames.GuestMAC, frames.Guest4, frames.Guest6}
			a.v.ifname, a.v.args = "guest", first.args()
			a.n.add(a.v)
			old := a.previous()
			a.n.remove(a.v)
			now, next := a.v, h.vm("next")
			now.args = station{"guest", frames.GuestMAC, "10.1.0.77", "fd00:1::77"}.args()
			next.ifname, next.args = "next", station{"next", frames.NeighbourMAC, frames.Guest4, frames.Guest6}.args()
			port := portOf(a.n.add(now))
			a.n.add(next)
			h.sh("ip link set " + port + " type bridge_slave learning on")
			a.v.args += ";REPAIR=1"
			got := h.exec(call{plugin: "microvm-bridge", verb: "CHECK", vm: a.v, stdin: a.n.single(1, conf{"prevResult": old})})
			for _, said := range []string{`"code": 7`, "the guest's address " + frames.Guest4 + " is that of", "the guest's address " + frames.Guest6 + " is that of"} {
				if got.exit == 0 || !strings.Contains(got.stdout, said) {
					t.Errorf("exit %d, and does not say %s: %s", got.exit, said, got.stdout)
				}
			}
			a.n.holds(now)
			a.n.remove(now)
			a.n.remove(next)
		})
	}
}

// A port that is guarded from now on forgets whose frames the bridge saw there.
func TestRepairForgetsWhatWasLearned(t *testing.T) {
	h := newHost(t)
	n, v := h.pair(unguarded), h.vm("vm1")
	res := n.add(v)
	name := v.tapOf(res)
	g := h.boot(name, net.HardwareAddr{2, 7, 7, 7, 7, 7})
	show := "bridge fdb show dev " + name
	learned := func() bool {
		g.send(net.HardwareAddr{2, 0xaa, 0, 0, 0, 1}, etherTest, nil)
		return strings.Contains(h.sh(show), g.mac.String())
	}
	if !eventually(learned) { // once the carrier is there
		t.Fatalf("nothing was learned: %s", h.sh(show))
	}
	n = h.pair(nil)
	if err := n.repair(v); err != nil {
		t.Fatal(err)
	}
	if got := h.sh(show); strings.Contains(got, g.mac.String()) || !strings.Contains(got, "sticky") {
		t.Errorf("the bridge knows\n%s", got)
	}
	n.remove(v)
}

// A bridge that somebody deletes comes back with the MAC address that it had, so that
// repairs of its guests do not undo each other.
func TestRepairOnABridgeMadeAnew(t *testing.T) {
	h := newHost(t)
	n, one, two := h.pair(conf{"guard": conf{"hostAccess": "gateway"}}), h.vm("vm1"), h.vm("vm2")
	mac := "cat /sys/class/net/br0/address"
	n.add(one)
	was := h.sh(mac)
	h.sh("ip link del br0")
	n.add(two)
	if is := h.sh(mac); is != was {
		t.Errorf("the bridge has the MAC address %s, and had %s", is, was)
	}
	n.isRepaired(one)
	n.holds(two)
	n.isRepaired(one)
	n.holds(two)
	n.remove(two)
	n.remove(one)
}

// The entry of an existing bridge is its owner's to mend: docs/troubleshooting.md has the command.
func TestOwnEntryOfAnExistingBridge(t *testing.T) {
	h := newHost(t)
	h.mine = append(h.mine, "br0")
	h.sh("ip link add br0 address 02:00:00:00:0b:01 type bridge; ip link set br0 up; ip address add 10.1.0.1/16 dev br0")
	n, v := h.pair(conf{"bridgeMode": "existing", "isGateway": nil, "isDefaultGateway": nil}), h.vm("vm1")
	n.add(v)
	n.holds(v)
	port := strings.TrimSpace(h.sh("ls /sys/class/net/br0/brif"))
	h.sh("bridge fdb replace 02:00:00:00:0b:01 dev " + port + " master static")
	const moved = "br0: fdb is at"
	wantError(t, n.check(v), 102, moved)
	if err := n.repair(v); err == nil || !strings.Contains(err.Error(), moved) {
		t.Errorf("REPAIR: %v", err)
	}
	h.sh("bridge fdb replace 02:00:00:00:0b:01 dev br0 self")
	n.holds(v)
	n.remove(v)
}
