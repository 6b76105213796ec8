package chain

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// CHECK names what of the guard, or of what stands behind it, is not as ADD left
// it, and a repair brings it back under the running guest, as does the next ADD.
func TestGuardCheckGoesRed(t *testing.T) {
	// For some time after it came up a timer has the port forward.
	const untimed = "ip link set br0 type bridge forward_delay 0; ip link set PORT down; ip link set PORT up; timeout 30 sh -c 'until bridge link show dev PORT | grep -q state.forwarding; do :; done'; "
	for _, test := range []struct {
		name   string
		change string // a shell script; PORT is the port
		words  []string
	}{
		{"filter deleted", "tc filter del dev PORT ingress pref 10", []string{"PORT: guard is off"}},
		{"clsact deleted", "tc qdisc del dev PORT clsact", []string{"PORT: guard is off"}},
		{"another filter in its place", "tc filter del dev PORT ingress pref 10; tc filter add dev PORT ingress protocol all pref 10 u32 match u32 0 0 flowid 1:1", []string{"guard is off (somebody else's filter has its preference)"}},
		{"filter before it", "tc filter add dev PORT ingress protocol all pref 5 u32 match u32 0 0 flowid 1:1", []string{"guard is", "after a filter u32 at preference 5"}},
		{"filter before it for one protocol", "tc filter add dev PORT ingress protocol ip pref 9 u32 match u32 0 0 flowid 1:1", []string{"after a filter u32 at preference 9"}},
		{"learning", "ip link set PORT type bridge_slave learning on", []string{"PORT: learning is on"}},
		{"unknown unicast", "ip link set PORT type bridge_slave flood on", []string{"flood is on"}},
		{"broadcasts", "ip link set PORT type bridge_slave bcast_flood off", []string{"bcast_flood is off"}},
		{"multicasts", "ip link set PORT type bridge_slave mcast_flood off", []string{"mcast_flood is off"}},
		{"locked", "ip link set PORT type bridge_slave locked off", []string{"PORT: locked is off"}},
		{"BPDU guard", "ip link set PORT type bridge_slave guard off", []string{"bpdu_guard is off"}},
		{"root block", "ip link set PORT type bridge_slave root_block off", []string{"root_block is off"}},
		{"multicast router", "ip link set PORT type bridge_slave mcast_router 1", []string{"mcast_router is on"}},
		{"disabled", "bridge link set dev PORT state disabled", []string{"state is disabled, expected forwarding"}},
		{"listening", untimed + "bridge link set dev PORT state listening", []string{"state is disabled, expected forwarding"}},
		{"learning only", untimed + "bridge link set dev PORT state learning", []string{"state is disabled, expected forwarding"}},
		{"ARP by proxy", "ip link set PORT type bridge_slave proxy_arp on", []string{"proxy_arp is on"}},
		{"gateway's entry moved", "bridge fdb replace " + frames.GatewayMAC + " dev PORT master static", []string{"br0: fdb is at PORT, expected " + frames.GatewayMAC}},
		{"gateway's entry deleted", "bridge fdb replace " + frames.GatewayMAC + " dev PORT master static; bridge fdb del " + frames.GatewayMAC + " dev PORT master", []string{"br0: fdb is none, expected " + frames.GatewayMAC}},
		{"entry deleted", "bridge fdb del " + frames.GuestMAC + " dev PORT master", []string{"fdb is", frames.GuestMAC}},
		{"entry moved", "ip link add elsewhere type veth peer name nowhere; ip link set elsewhere master br0; bridge fdb replace " + frames.GuestMAC + " dev elsewhere master static", []string{"fdb is at elsewhere", frames.GuestMAC}},
		{"entry at the bridge", "bridge fdb replace " + frames.GuestMAC + " dev br0 self", []string{"fdb is at br0", frames.GuestMAC}},
		{"entry may move", "bridge fdb replace " + frames.GuestMAC + " dev PORT master static", []string{"fdb is one that may move", frames.GuestMAC}},
		{"out of the bridge", "ip link set PORT nomaster", []string{"PORT: master is none"}},
		{"on another bridge with the same flags", "ip link add br9 up type bridge; ip link set PORT master br9; " +
			"ip link set PORT type bridge_slave learning off flood off guard on root_block on mcast_router 0; ip link set PORT type bridge_slave locked on 2>/dev/null || true; " +
			"ip link set PORT type bridge_slave mcast_max_groups 64 2>/dev/null || true; bridge fdb replace " + frames.GuestMAC + " dev PORT master static sticky", []string{"master is br9"}},
	} {
		for placement, tap := range placements {
			t.Run(placement+" "+test.name, func(t *testing.T) {
				a := newArena(t, tap, nil, neighbourOf)
				if test.name == "locked" && !strings.Contains(a.h.sh("ip -d -j link show "+a.port), `"locked":`) {
					t.Log("this kernel has no such flag (before 5.16)")
					return
				}
				a.h.mine = append(a.h.mine, "elsewhere", "nowhere", "br9")
				a.n.holds(a.v)
				a.h.sh(strings.ReplaceAll(test.change, "PORT", a.port))
				words := []string{}
				for _, word := range test.words {
					words = append(words, strings.ReplaceAll(word, "PORT", a.port))
				}
				wantError(t, a.n.check(a.v), 102, words...)
				if strings.Contains(test.change, "u32") { // which somebody has to take off first
					wantError(t, a.n.repair(a.v), 101, a.port)
				} else {
					a.n.isRepaired(a.v)
					if !a.forwards(a.guest, frames.Guest4) {
						t.Fatal("after a repair the guest is not heard")
					}
					a.barrier()
					if harm, _ := a.achieved(group("mac")[0].Frame, [vnetHeader]byte{}); harm != nil {
						t.Errorf("after a repair: %v", harm)
					}
				}
				a.n.remove(a.v)
				a.h.sh("ip link del elsewhere 2>/dev/null || true; ip link del br9 2>/dev/null || true")
				a.n.add(a.v)
				a.n.holds(a.v)
			})
		}
	}
}

// A bridge that speaks STP sets the states of its ports itself: a repair says what to do.
func TestDisabledPortOfABridgeWithSTP(t *testing.T) {
	a := newArena(t, tap, nil, neighbourOf)
	a.h.sh("bridge link set dev " + a.port + " state disabled; ip link set br0 type bridge stp_state 1")
	wantError(t, a.n.check(a.v), 102, "state is disabled, expected forwarding", a.port)
	err := a.n.repair(a.v)
	wantError(t, err, 100, "set port state", a.port)
	remedy := fmt.Sprintf("ip link set %s down && ip link set %[1]s up", a.port)
	if !strings.Contains(fmt.Sprint(err), remedy) {
		t.Fatalf("%v\ndoes not say %q", err, remedy)
	}
	a.h.sh(remedy)
	a.n.holds(a.v)
}

// Filters of a block that devices share are not the port's own: a repair says what to do.
func TestGuardInASharedBlock(t *testing.T) {
	a := newArena(t, tap, nil, neighbourOf)
	a.h.sh("tc qdisc del dev " + a.port + " clsact; tc qdisc add dev " + a.port + " ingress_block 7 clsact")
	wantError(t, a.n.check(a.v), 102, "guard is off", a.port)
	err := a.n.repair(a.v)
	wantError(t, err, 100, "attach", "operation not supported")
	if !strings.Contains(fmt.Sprint(err), "tc qdisc del dev DEVICE clsact") {
		t.Errorf("%v\ndoes not say what to do", err)
	}
	a.h.sh("tc qdisc del dev " + a.port + " clsact")
	a.n.isRepaired(a.v)
}

// A program at XDP or tcx comes before all filters, so it may get frames past the
// guard: CHECK names it, and a tap that has one is refused. Linux before 6.6 has no
// tcx.
func TestGuardBehindOthers(t *testing.T) {
	for hook, kind := range map[string]ebpf.ProgramType{"tcx": ebpf.SchedCLS, "XDP": ebpf.XDP} {
		for placement, tap := range placements {
			t.Run(placement+" "+hook, func(t *testing.T) { testGuardBehind(t, hook, kind, tap) })
		}
	}
}

func testGuardBehind(t *testing.T, hook string, kind ebpf.ProgramType, tap conf) {
	a := newArena(t, tap, nil, neighbourOf)
	a.h.tap("tap0")
	for _, port := range []string{a.port, "tap0"} {
		l, id, err := a.h.attachBefore(port, kind)
		if kind == ebpf.SchedCLS && errors.Is(err, ebpf.ErrNotSupported) {
			t.Log("this kernel has no tcx")
			a.n.holds(a.v)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		told := fmt.Sprintf("a program %d at %s", id, hook)
		if port == a.port {
			wantError(t, a.n.check(a.v), 102, "guard is", "after "+told, port)
			wantError(t, a.n.repair(a.v), 101, "before the guard: "+told, port)
		} else {
			a.h.fake("other-tap", `[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","interfaces":[{"name":"tap0"}]}'`)
			n, v := a.h.network("other", newest, conf{"type": "other-tap"}, plain), a.h.vm("vm2")
			_, err = n.tryAdd(v)
			wantError(t, err, 101, "before the guard: "+told, port)
			n.remove(v)
		}
		if err = l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a.n.isRepaired(a.v)
}

// attachBefore attaches a program that accepts all where it comes before filters,
// until the link is closed.
func (h *host) attachBefore(port string, kind ebpf.ProgramType) (l bpflink.Link, id ebpf.ProgramID, err error) {
	h.t.Helper()
	accept := int32(0)
	if kind == ebpf.XDP {
		accept = 2 // XDP_PASS
	}
	p, err := always(kind, accept)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		return nil, 0, err
	}
	id, _ = info.ID()
	attach := func() error {
		device, inner := net.InterfaceByName(port)
		switch {
		case inner != nil:
		case kind == ebpf.XDP:
			l, inner = bpflink.AttachXDP(bpflink.XDPOptions{Interface: device.Index, Program: p, Flags: bpflink.XDPGenericMode})
		default:
			l, inner = bpflink.AttachTCX(bpflink.TCXOptions{Interface: device.Index, Program: p, Attach: ebpf.AttachTCXIngress})
		}
		return inner
	}
	err = h.do(attach)
	return l, id, err
}

// What people and services do to a host does not open the port.
func TestGuardOutlasts(t *testing.T) {
	spoofed := group("mac")[0]
	for name, change := range map[string]string{
		"nft flush ruleset":   "nft flush ruleset",
		"rename":              "ip link set PORT down; ip link set PORT name renamed; ip link set renamed up",
		"down and up":         "ip link set PORT down; ip link set PORT up",
		"out of the bridge":   "ip link set PORT nomaster; ip link set PORT master br0",
		"iptables flushed":    "iptables -F; ebtables -F 2>/dev/null || true",
		"forwarding disabled": "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.ip_forward=1",
	} {
		for placement, tap := range placements {
			t.Run(placement+" "+name, func(t *testing.T) {
				a := newArena(t, tap, nil, neighbourOf)
				a.h.sh(strings.ReplaceAll(change, "PORT", a.port))
				if a.h.link(a.port) == nil {
					a.port = "renamed"
				}
				// Out of the bridge the port's flags are lost, and only the guard stands.
				if !eventually(func() bool { return strings.Contains(a.h.sh("bridge link show dev "+a.port), "state forwarding") }) {
					t.Fatal("the port does not come back")
				}
				a.barrier() // a port without the flags learns the guest's own address
				for _, attempt := range append(group("arp", "nd", "dhcp"), spoofed) {
					if attempt.Rules.L2Only || len(attempt.Rules.Addresses) != 2 || attempt.Rules.Isolate || attempt.Rules.Addresses[0].Bits() != 32 {
						continue
					}
					if harm, _ := a.achieved(frames.Sealed(attempt.Frame), [vnetHeader]byte{}); len(harm) > 0 {
						t.Errorf("%s: %v", attempt.Name, harm)
					}
				}
			})
		}
	}
}

// Without the guard the same frames arrive: the other tests could fail. Some do
// not, for the bridge itself drops packets whose headers are broken, and keeps
// what is to itself.
func TestWithoutGuardAttacksArrive(t *testing.T) {
	for placement, tap := range placements {
		for _, name := range []string{"mac", "l2", "arp", "ip4", "ip6", "nd", "dhcp", "reach"} {
			t.Run(placement+" "+name, func(t *testing.T) {
				a := newArena(t, tap, unguarded, neighbourOf)
				if a.index != 0 {
					t.Fatal("the port has a guard")
				}
				attacks := group(name)
				var idle []string
				for _, attempt := range attacks {
					a.neighbour.send(frames.Eth(frames.GatewayMAC, frames.NeighbourMAC, 0x88b5, frames.Zeros(60))) // it is still there
					a.barrier()
					if harm, _ := a.achieved(frames.Sealed(attempt.Frame), [vnetHeader]byte{}); len(harm) == 0 {
						idle = append(idle, attempt.Name)
					}
				}
				t.Logf("%d of %d do something, and not %q", len(attacks)-len(idle), len(attacks), idle)
				if 2*len(idle) > len(attacks) {
					t.Errorf("only %d of %d attacks do anything", len(attacks)-len(idle), len(attacks))
				}
			})
		}
	}
}

// A guard that is off touches nothing, and every verb that a person might look at
// says that it is.
func TestGuardOff(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, unguarded, neighbourOf)
			if out := a.h.sh("tc filter show dev " + a.port + " ingress"); out != "" {
				t.Errorf("the port has %s", out)
			}
			a.h.sh("ip link add plain type veth peer name plain2; ip link set plain master br0")
			a.h.mine = append(a.h.mine, "plain", "plain2")
			for _, flag := range []string{"learning", "flood", "locked", "guard", "root_block", "multicast_router", "isolated"} {
				if got, want := a.h.flags(a.port)[flag], a.h.flags("plain")[flag]; got != want {
					t.Errorf("%s is %v, and %v at a port of anybody's", flag, got, want)
				}
			}
			a.h.sh("ip link del plain")
			for verb, more := range map[string]conf{"STATUS": nil, "CHECK": {"prevResult": a.previous()}} {
				got := a.h.exec(call{plugin: "microvm-bridge", verb: verb, vm: a.v, stdin: a.n.single(1, more)})
				if got.exit != 0 || got.stdout != "" || !strings.Contains(got.stderr, `"mode": "off"`) {
					t.Errorf("%s: exit %d, stdout %q, stderr %q", verb, got.exit, got.stdout, got.stderr)
				}
			}
		})
	}
}

// flags are those of a port, as ip tells them.
func (h *host) flags(dev string) map[string]any {
	h.t.Helper()
	var links []struct {
		Info struct {
			Port map[string]any `json:"info_slave_data"`
		} `json:"linkinfo"`
	}
	if err := json.Unmarshal([]byte(h.sh("ip -j -d link show "+dev)), &links); err != nil || len(links) != 1 {
		h.t.Fatalf("%d links, %v", len(links), err)
	}
	return links[0].Info.Port
}

// A guard that the configuration has no more is there until a repair, which takes it
// off with all that stood behind it.
func TestGuardGoesOff(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, nil, neighbourOf)
			previous := a.previous()
			a.n.plugins = []conf{a.n.plugins[0], a.n.plugins[1].with(unguarded)}
			v := a.v
			const likes = "its guest may send what it likes"
			got := a.h.exec(call{plugin: "microvm-bridge", verb: "CHECK", vm: v, stdin: a.n.single(1, conf{"prevResult": previous})})
			if got.exit == 0 || strings.Contains(got.stderr, likes) || !strings.Contains(got.stdout, "expected off") {
				t.Errorf("CHECK: exit %d, stdout %q, stderr %q", got.exit, got.stdout, got.stderr)
			}
			v.args += ";REPAIR=1"
			got = a.h.exec(call{plugin: "microvm-bridge", verb: "CHECK", vm: v, stdin: a.n.single(1, conf{"prevResult": previous})})
			if got.exit != 0 || !strings.Contains(got.stderr, likes) {
				t.Errorf("CHECK: exit %d, stdout %q, stderr %q", got.exit, got.stdout, got.stderr)
			}
			a.h.sh("ip link add plain type veth peer name plain2; ip link set plain master br0")
			a.h.mine = append(a.h.mine, "plain", "plain2")
			for flag, want := range a.h.flags("plain") {
				switch flag {
				case "learning", "flood", "bcast_flood", "mcast_flood", "locked", "guard", "root_block", "multicast_router", "mcast_max_groups", "isolated":
					if have := a.h.flags(a.port)[flag]; have != want {
						t.Errorf("%s is %v, and %v at a port of anybody's", flag, have, want)
					}
				}
			}
			if entries := a.h.sh("bridge fdb show dev " + a.port); strings.Contains(entries, frames.GuestMAC) && strings.Contains(entries, "sticky") {
				t.Errorf("still bound to the port: %s", entries)
			}
			a.h.sh("ip link del plain")
		})
	}
}

// previous is what libcni remembers of the guest's ADD.
func (a *arena) previous() (result map[string]any) {
	a.t.Helper()
	var cached struct{ Result map[string]any }
	err := a.h.do(func() error {
		b, err := os.ReadFile(filepath.Join(cniDir, "results", a.n.name+"-"+a.v.id+"-"+a.v.ifname))
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &cached)
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return cached.Result
}

// CHECK and GC tell what was dropped, in words that bpftool has, too.
func TestGuardTellsWhatItDropped(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, nil, neighbourOf)
			check := call{plugin: "microvm-bridge", verb: "CHECK", vm: a.v, stdin: a.n.single(1, conf{"prevResult": a.previous()})}
			a.h.exec(check).silent(t)
			for _, attempt := range append(group("mac")[:2], group("arp")[:1]...) {
				if harm, _ := a.achieved(attempt.Frame, [vnetHeader]byte{}); harm != nil {
					t.Error(harm)
				}
			}
			said := "microvm-bridge: guard of " + a.port + " dropped 3 frames: source-mac 2, arp-sender-ip 1\n"
			for _, code := range []int{0, 1} { // green, then red
				got := a.h.exec(check)
				if got.exit != code || got.stderr != said {
					t.Errorf("CHECK: exit %d, stderr %q", got.exit, got.stderr)
				}
				if told := strings.Contains(got.stdout, strings.TrimSpace(strings.TrimPrefix(said, "microvm-bridge: "))); told != (code == 1) {
					t.Errorf("CHECK: exit %d, stdout %q", got.exit, got.stdout)
				}
				a.h.sh("ip link set " + a.port + " type bridge_slave learning on")
			}
			gc := a.h.exec(call{plugin: "microvm-bridge", verb: "GC", vm: vm{}, stdin: a.n.single(1, conf{"cni.dev/valid-attachments": []conf{}})})
			if gc.exit != 0 || gc.stdout != "" || !strings.Contains(gc.stderr, said) {
				t.Errorf("GC: exit %d, stdout %q, stderr %q", gc.exit, gc.stdout, gc.stderr)
			}
		})
	}
}
