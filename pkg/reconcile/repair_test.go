package reconcile_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// guarded is what vm's port is, with its guest bound to it and a guard.
func guarded(a attachment.Attachment) linkspec.State {
	s := bridgeState(a, true)
	s.Links[1].Guest, s.Links[1].Learning = nil, new(false)
	s.Links[1].Stations = []net.HardwareAddr{a.GuestMAC()}
	s.Links[1].Guard = &linkspec.Guard{MACs: s.Links[1].Stations, L2Only: true, HostAccess: linkspec.HostAll}
	return s
}

// street has two guests that are as they should be.
func street(t *testing.T) *fake.Kernel {
	t.Helper()
	k := fake.New()
	for _, a := range []attachment.Attachment{vm1, vm2} {
		apply(t, k, tapState(a), claimState(a), guarded(a))
	}
	return k
}

// A port that somebody moved comes back with all that its own bridge knew of it,
// though it had the same on the other one.
func TestRepairOfAPortThatWasMoved(t *testing.T) {
	k := street(t)
	s := guarded(vm1)
	s.Links[1].UnicastFlood, s.Links[1].Locked = new(false), new(true)
	s.Links[1].VLANs = []linkspec.VLAN{{ID: 7, PVID: true, Untagged: true}}
	s.Links[0].VLANFiltering = new(true)
	if err := reconcile.Repair(k, vm1, s); err != nil {
		t.Fatal(err)
	}
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br9", VLANFiltering: new(true)})
	port, _ := k.Link(vm1.TapName())
	whole := port.String()
	there := s.Links[1]
	there.Master, there.Disabled = new("br9"), nil
	if err := k.Set(port, there); err != nil {
		t.Fatal(err)
	}
	if err := reconcile.Repair(k, vm1, s); err != nil {
		t.Fatal(err)
	}
	if port, _ = k.Link(vm1.TapName()); port.String() != whole {
		t.Errorf("repaired to\n%s\nwant\n%s", port, whole)
	}
}

// gate fails the test when a port joins a bridge up, and the calls that it is told to.
type gate struct {
	reconcile.Kernel
	t    *testing.T
	fail func(change linkspec.Link) bool
}

func (g *gate) Set(l, change linkspec.Link) error {
	g.t.Helper()
	if now, err := g.Link(l.Name); err == nil && change.Master != nil && *change.Master != "" && *now.Up && (change.Up == nil || *change.Up) {
		g.t.Errorf("%s joins %s up", l.Name, *change.Master)
	}
	if g.fail != nil && g.fail(change) {
		if change.Master != nil && g.fail(linkspec.Link{Isolated: change.Isolated}) { // flags come after it
			_ = g.Kernel.Set(l, linkspec.Link{Guard: change.Guard, Master: change.Master, Up: change.Up})
		}
		return errInjected
	}
	return g.Kernel.Set(l, change)
}

// A port that is up is down while it joins its bridge, and up again when it is as
// declared, or does not come to join.
func TestRepairJoinsDown(t *testing.T) {
	for _, from := range []string{"", "br9"} {
		for name, fail := range map[string]func(linkspec.Link) bool{
			"joins":         nil,
			"does not join": func(change linkspec.Link) bool { return change.Master != nil },
		} {
			t.Run(name+" from "+from, func(t *testing.T) {
				k := street(t)
				k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br9"})
				port, _ := k.Link(vm1.TapName())
				if err := k.Set(port, linkspec.Link{Master: &from}); err != nil {
					t.Fatal(err)
				}
				err := reconcile.Repair(&gate{Kernel: k, t: t, fail: fail}, vm1, guarded(vm1))
				if (err != nil) != (fail != nil) {
					t.Error(err)
				}
				want := "br0"
				if fail != nil {
					want = from
				}
				if port, _ = k.Link(vm1.TapName()); *port.Master != want || !*port.Up {
					t.Errorf("it is\n%s", port)
				}
			})
		}
	}
}

// What cannot be set keeps nothing else from being set. A port that is not guarded
// is not put on its bridge, nor set up there.
func TestRepairGoesOn(t *testing.T) {
	guard := func(change linkspec.Link) bool { return change.Guard != nil }
	for name, c := range map[string]struct {
		tamper func(*linkspec.Link)
		master string
		fail   func(change linkspec.Link) bool
		left   string // what still differs
	}{
		"a guard":                           {func(l *linkspec.Link) { l.Guard, l.Isolated, l.MTU = nil, new(false), new(1400) }, "br0", guard, "guard"},
		"a guard of a port that is down":    {func(l *linkspec.Link) { l.Guard, l.Isolated, l.Up = nil, new(false), new(false) }, "br0", guard, "guard up"},
		"a guard of a port that is nowhere": {func(l *linkspec.Link) { l.Guard, l.MTU = nil, new(1400) }, "", guard, "master hairpin isolated learning guard fdb"},
		"a flag": {
			func(l *linkspec.Link) { l.Guard, l.Isolated, l.MTU = nil, new(false), new(1400) }, "br0",
			func(change linkspec.Link) bool { return change.Isolated != nil }, "isolated",
		},
		"a flag of a port that joins": {
			func(l *linkspec.Link) { l.Guard = nil }, "",
			func(change linkspec.Link) bool { return change.Isolated != nil }, "isolated up",
		},
		"an address of the bridge": {
			func(l *linkspec.Link) { l.Guard = nil }, "br0",
			func(change linkspec.Link) bool { return change.Addresses != nil }, "inet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := street(t)
			link, _ := k.Link(vm1.TapName())
			if err := k.Set(link, linkspec.Link{Master: &c.master}); err != nil {
				t.Fatal(err)
			}
			k.Edit(vm1.TapName(), c.tamper)
			k.Edit("br0", func(l *linkspec.Link) { l.Addresses, l.Up = nil, new(false) })
			_ = k.SetSysctl("net.ipv4.ip_forward", "0")
			if err := reconcile.Repair(&gate{Kernel: k, t: t, fail: c.fail}, vm1, guarded(vm1)); !errors.Is(err, errInjected) {
				t.Errorf("error is %v", err)
			}
			diffs, err := reconcile.Diff(k, guarded(vm1))
			var left []string
			for _, d := range diffs {
				left = append(left, d.Field)
			}
			if err != nil || strings.Join(left, " ") != c.left {
				t.Errorf("left to differ: %q, %v, want %s", left, err, c.left)
			}
		})
	}
}

// A station that is somebody's own by now is left out of what is set, and told.
func TestRepairGoesOnWithoutAStation(t *testing.T) {
	k := street(t)
	s := guarded(vm1)
	s.Links[1].Stations = append(s.Links[1].Stations, vm2.GuestMAC())
	k.Edit(vm1.TapName(), func(l *linkspec.Link) { l.Guard, l.Isolated = nil, new(false) })
	k.Bind("br0", vm1.GuestMAC(), vm2.TapName())
	wantCode(t, reconcile.Repair(k, vm1, s), cnierr.Config)
	diffs, err := reconcile.Diff(k, s)
	if err != nil || len(diffs) != 1 || diffs[0].Field != "fdb" || len(diffs[0].Want) != 1 {
		t.Errorf("left to differ: %v, %v", diffs, err)
	}
}

// What somebody changed is as it was afterwards, whoever has the guest's address.
func TestRepair(t *testing.T) {
	for name, tamper := range map[string]func(*fake.Kernel){
		"nothing": func(*fake.Kernel) {},
		"sysctl":  func(k *fake.Kernel) { _ = k.SetSysctl("net.ipv4.ip_forward", "0") },
		"bridge":  func(k *fake.Kernel) { k.Edit("br0", func(l *linkspec.Link) { l.Addresses, l.Up = nil, new(false) }) },
		"port": func(k *fake.Kernel) {
			k.Edit(vm1.TapName(), func(l *linkspec.Link) { l.Isolated, l.MTU, l.Up = new(false), new(1400), new(false) })
		},
		"disabled": func(k *fake.Kernel) { k.Edit(vm1.TapName(), func(l *linkspec.Link) { l.Disabled = new(true) }) },
		"guard":    func(k *fake.Kernel) { k.Edit(vm1.TapName(), func(l *linkspec.Link) { l.Guard = &linkspec.Guard{} }) },
		"no port": func(k *fake.Kernel) {
			port, _ := k.Link(vm1.TapName())
			_ = k.Set(port, linkspec.Link{Master: new("")})
		},
		"station of a neighbour": func(k *fake.Kernel) { k.Bind("br0", vm1.GuestMAC(), vm2.TapName()) },
	} {
		t.Run(name, func(t *testing.T) {
			k := street(t)
			whole := links(k)
			tamper(k)
			if diffs, err := reconcile.Diff(k, guarded(vm1)); err != nil || (len(diffs) > 0) != (name != "nothing") {
				t.Fatalf("differences before the repair: %v, %v", diffs, err)
			}
			if err := reconcile.Repair(k, vm1, guarded(vm1)); err != nil {
				t.Fatal(err)
			}
			if after := links(k); after != whole && name != "sysctl" { // it goes for all devices
				t.Errorf("repaired to\n%s\nwant\n%s", after, whole)
			}
			if diffs, err := reconcile.Diff(k, guarded(vm1)); err != nil || len(diffs) > 0 {
				t.Errorf("differences after a repair: %v, %v", diffs, err)
			}
		})
	}
}

// A repair makes no links and changes none of somebody else's, and what it cannot
// set it leaves for Diff.
func TestRepairLeaves(t *testing.T) {
	joined := func(change func(*linkspec.State)) linkspec.State {
		s := guarded(vm1)
		s.Links[0] = linkspec.Link{Role: linkspec.Joined, Kind: linkspec.Bridge, Name: "br0", Up: new(true)}
		change(&s)
		return s
	}
	for _, c := range []struct {
		name   string
		state  linkspec.State
		tamper func(*fake.Kernel)
		left   string
	}{
		{"a link that is gone", guarded(vm1), func(k *fake.Kernel) {
			port, _ := k.Link(vm1.TapName())
			_ = k.Delete(port)
		}, vm1.TapName() + ": link is none"},
		{"a bridge that is somebody's", joined(func(*linkspec.State) {}), func(k *fake.Kernel) {
			k.Edit("br0", func(l *linkspec.Link) { l.Up = new(false) })
		}, "br0: up is off"},
		{"the owner of a tap", joined(func(s *linkspec.State) { s.Links[1].Owner = new(uint32(77)) }), func(*fake.Kernel) {}, "user is 1000, expected 77"},
		{"another kind of device", joined(func(s *linkspec.State) { s.Links[1].Kind = linkspec.Veth }), func(*fake.Kernel) {}, "kind is tap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := street(t)
			c.tamper(k)
			before := links(k)
			if err := reconcile.Repair(k, vm1, c.state); err != nil {
				t.Fatal(err)
			}
			if after := links(k); after != before {
				t.Errorf("left\n%s\nwhere there was\n%s", after, before)
			}
			diffs, err := reconcile.Diff(k, c.state)
			if err != nil || !strings.Contains(fmt.Sprint(diffs), c.left) {
				t.Errorf("%v, %v, want %q", diffs, err, c.left)
			}
		})
	}
}

// What has the name of a link, but is not the attachment's, is nobody's to repair.
func TestRepairLeavesWhatIsNotTheAttachments(t *testing.T) {
	for name, replace := range map[string]func(*linkspec.Link){
		"somebody's": func(l *linkspec.Link) { l.Alias, l.AltNames = new("his"), []string{"his-handle"} },
		"nobody's":   func(l *linkspec.Link) { l.Alias, l.AltNames = new(""), nil },
		"another guest's": func(l *linkspec.Link) {
			l.Alias, l.AltNames = tapState(vm2).Links[0].Alias, []string{vm2.TapHandle(), vm2.PortHandle()}
		},
		"another guest's by tag": func(l *linkspec.Link) { l.Alias, l.AltNames = tapState(vm2).Links[0].Alias, nil },
	} {
		for plugin, state := range map[string]linkspec.State{"tap": tapState(vm1), "bridge": guarded(vm1)} {
			t.Run(plugin+", "+name, func(t *testing.T) {
				k := street(t)
				k.Remove(vm2.TapName())
				k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br7"})
				k.Edit(vm1.TapName(), replace)
				port, _ := k.Link(vm1.TapName())
				if err := k.Set(port, linkspec.Link{Master: new("br7"), MAC: foreignMAC}); err != nil {
					t.Fatal(err)
				}
				leaves(t, k, state)
			})
		}
	}
}

// leaves fails the test if a repair changes anything, or passes over what differs.
func leaves(t *testing.T, k *fake.Kernel, s linkspec.State) {
	t.Helper()
	before := links(k)
	if err := reconcile.Repair(k, vm1, s); err == nil || !strings.Contains(err.Error(), "somebody else's") {
		t.Errorf("error is %v", err)
	}
	if after := links(k); after != before {
		t.Errorf("left\n%s\nwhere there was\n%s", after, before)
	}
	if diffs, err := reconcile.Diff(k, s); err != nil || len(diffs) == 0 {
		t.Errorf("differences after it: %v, %v", diffs, err)
	}
}

// In a namespace that is another one by now, a tap has nothing that tells of us; a
// gateway's name is one that a person may give, too.
func TestRepairLeavesNamesakes(t *testing.T) {
	k := newAway()
	s := awayStates(vm1)
	apply(t, k, s...)
	own, _ := k.LinkIn(vmm, vm1.TapName())
	if err := k.Delete(own); err != nil {
		t.Fatal(err)
	}
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: vm1.TapName(), Netns: vmm, MTU: new(1300), Alias: tapState(vm2).Links[0].Alias})
	leaves(t, k, s[2])
	k.RemoveNetns(vmm)
	k.AddNetns(vmm)
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: vm1.TapName(), Netns: vmm, MTU: new(1300)})
	before := links(k)
	if err := reconcile.Repair(k, vm1, s[2]); err != nil {
		t.Error(err)
	}
	if after := links(k); after != before {
		t.Errorf("left\n%s\nwhere there was\n%s", after, before)
	}

	k = fake.New()
	gateway := vlanState(vm1, true, 7)
	apply(t, k, tapState(vm1), claimState(vm1), gateway)
	k.Edit("br0.7", func(l *linkspec.Link) { l.Alias, l.Up = new("his"), new(false) })
	leaves(t, k, gateway)
}

// A port that DEL took off its bridge is not put back, in whatever DEL is about.
func TestRepairLeavesWhatDELDoes(t *testing.T) {
	forget := func(k *fake.Kernel) error { return reconcile.Forget(t.Context(), k, vm1, "br0") }
	off := func(k *fake.Kernel) error { return disconnect(k, vm1, nil) }
	for name, del := range map[string][]func(*fake.Kernel) error{
		"is off its bridge": {off},
		"is forgotten":      {off, forget},
		"is forgotten, and up": {off, forget, func(k *fake.Kernel) error {
			port, _ := k.Link(vm1.TapName())
			return k.Set(port, linkspec.Link{Up: new(true)})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			k := street(t)
			for _, step := range del {
				if err := step(k); err != nil {
					t.Fatal(err)
				}
			}
			s := guarded(vm1)
			s.Masquerade = &linkspec.Masquerade{Backend: linkspec.NFTables, Network: "lab", Sources: []netip.Prefix{gateway.Prefix}}
			before := links(k)
			if err := reconcile.Repair(k, vm1, s); err == nil || !strings.Contains(err.Error(), "left so") {
				t.Errorf("error is %v", err)
			}
			if after := links(k); after != before {
				t.Errorf("left\n%s\nwhere there was\n%s", after, before)
			}
			if rules, err := k.Masquerades(*s.Masquerade); err != nil || len(rules) > 0 {
				t.Errorf("there are rules %v, %v", rules, err)
			}
		})
	}
	k := newAway()
	s := awayStates(vm1)
	apply(t, k, s...)
	if err := off(k); err != nil {
		t.Fatal(err)
	}
	before := links(k)
	if err := reconcile.Repair(k, vm1, s[2]); err == nil || links(k) != before {
		t.Errorf("%v, and left\n%s\nwhere there was\n%s", err, links(k), before)
	}
}

// A handle or a tag that somebody took off is put back, as long as something else
// tells whose the link is.
func TestRepairPutsMarksBack(t *testing.T) {
	for name, c := range map[string]struct {
		state linkspec.State
		edit  func(*linkspec.Link)
	}{
		"the tap's handle":  {tapState(vm1), func(l *linkspec.Link) { l.AltNames = []string{vm1.PortHandle()} }},
		"the tap's tag":     {tapState(vm1), func(l *linkspec.Link) { l.Alias = new("") }},
		"the port's handle": {guarded(vm1), func(l *linkspec.Link) { l.AltNames = []string{vm1.TapHandle()} }},
		"both handles":      {guarded(vm1), func(l *linkspec.Link) { l.AltNames = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			k := street(t)
			k.Edit(vm1.TapName(), c.edit)
			if err := reconcile.Repair(k, vm1, c.state); err != nil {
				t.Fatal(err)
			}
			if diffs, err := reconcile.Diff(k, c.state); err != nil || len(diffs) > 0 {
				t.Errorf("differences after a repair: %v, %v", diffs, err)
			}
		})
	}
}

// An address that is a neighbour's own by now stays there.
func TestRepairTakesNobodysAddress(t *testing.T) {
	k := street(t)
	s := guarded(vm1)
	s.Links[1].Stations = []net.HardwareAddr{vm2.GuestMAC()}
	before := links(k)
	err := reconcile.Repair(k, vm1, s)
	wantCode(t, err, cnierr.Config)
	if !strings.Contains(fmt.Sprint(err), "is that of "+vm2.TapName()) {
		t.Errorf("error is %v", err)
	}
	if after := links(k); after != before {
		t.Errorf("left\n%s\nwhere there was\n%s", after, before)
	}
}

// With a guard that the configuration has no more goes what stood behind it.
func TestRepairTakesAGuardOff(t *testing.T) {
	k := fake.New()
	whole := guarded(vm1)
	port := &whole.Links[1]
	port.UnicastFlood, port.Locked, port.McastRouter = new(false), new(true), new(false)
	port.BPDUGuard, port.RootBlock = new(true), new(true)
	apply(t, k, tapState(vm1), claimState(vm1), whole)
	s := bridgeState(vm1, true)
	s.Links[1].Guest, s.Links[1].Guard = nil, &linkspec.Guard{}
	if err := reconcile.Repair(k, vm1, s); err != nil {
		t.Fatal(err)
	}
	repaired := links(k)
	k = fake.New()
	apply(t, k, tapState(vm1), claimState(vm1), s)
	if never := links(k); repaired != never {
		t.Errorf("repaired to\n%s\nand without a guard ever\n%s", repaired, never)
	}
	// What somebody else has set stays.
	k.Edit(vm1.TapName(), func(l *linkspec.Link) { l.Learning, l.MTU = new(false), new(1400) })
	if err := reconcile.Repair(k, vm1, s); err != nil {
		t.Fatal(err)
	}
	if l, err := k.Link(vm1.TapName()); err != nil || *l.Learning || *l.MTU != 1500 {
		t.Errorf("repaired to\n%s%v", l, err)
	}
}

// addressed is guarded for a guest with that address, which it was given, and with one
// that others may have, too.
func addressed(a attachment.Attachment, address string) linkspec.State {
	s := guarded(a)
	own := netip.MustParseAddr(address)
	g := linkspec.Guard{MACs: s.Links[1].Stations, Addresses: []netip.Prefix{netip.PrefixFrom(own, 32), netip.MustParsePrefix("10.0.0.100/32")}}.Canonical()
	s.Links[1].Guard, s.Links[1].GuestAddresses = &g, []netip.Addr{own}
	return s
}

// A promise that is out of date gives nobody an address that is another guest's by now,
// and is no reason to leave the rest as it is.
func TestRepairGivesNobodysAddress(t *testing.T) {
	const mine, theirs, shared = "10.0.0.11/32", "10.0.0.12/32", "10.0.0.100/32"
	for name, c := range map[string]struct {
		tamper  func(*linkspec.Link)
		master  string
		vlan    int // of the other guest; ours is in 7
		refused bool
		allowed string // by the guard, in the end
		left    string
	}{
		"another guest's":                {nil, "br0", 7, true, mine + " " + shared, "guard"},
		"another VLAN's":                 {nil, "br0", 8, false, theirs + " " + shared, ""},
		"without a guard":                {func(l *linkspec.Link) { l.Guard = nil }, "br0", 7, true, shared, "guard"},
		"of a port that is down":         {func(l *linkspec.Link) { l.Up = new(false) }, "br0", 7, true, mine + " " + shared, "guard"},
		"of a port that is on no bridge": {nil, "", 7, true, mine + " " + shared, "guard"},
	} {
		t.Run(name, func(t *testing.T) {
			k := fake.New()
			for i, a := range []attachment.Attachment{vm1, vm2} {
				s := addressed(a, []string{"10.0.0.11", "10.0.0.12"}[i])
				s.Links[0].VLANFiltering, s.Links[1].VLANs = new(true), []linkspec.VLAN{{ID: []int{7, c.vlan}[i], PVID: true, Untagged: true}}
				apply(t, k, tapState(a), claimState(a), s)
			}
			port, _ := k.Link(vm1.TapName())
			if err := k.Set(port, linkspec.Link{Master: &c.master}); err != nil {
				t.Fatal(err)
			}
			k.Edit(vm1.TapName(), func(l *linkspec.Link) { l.MTU = new(1400) })
			if c.tamper != nil {
				k.Edit(vm1.TapName(), c.tamper)
			}
			s := addressed(vm1, "10.0.0.12")
			s.Links[1].VLANs = []linkspec.VLAN{{ID: 7, PVID: true, Untagged: true}}
			err := reconcile.Repair(k, vm1, s)
			if c.refused {
				wantCode(t, err, cnierr.Config)
			} else if err != nil {
				t.Error(err)
			}
			g, err := k.Guard(port)
			if err != nil || fmt.Sprint(g.Addresses) != "["+c.allowed+"]" {
				t.Errorf("the guard allows %v, %v", g.Addresses, err)
			}
			diffs, err := reconcile.Diff(k, s)
			var left []string
			for _, d := range diffs {
				left = append(left, d.Field)
			}
			if err != nil || strings.Join(left, " ") != c.left {
				t.Errorf("left to differ: %q, %v, want %s", left, err, c.left)
			}
		})
	}
}

func TestRepaired(t *testing.T) {
	d := func(link, field string) linkspec.Difference {
		return linkspec.Difference{Link: link, Field: field, Want: []string{"on"}}
	}
	before := []linkspec.Difference{d("a", "up"), d("a", "mtu"), d("b", "up")}
	got := reconcile.Repaired(before, []linkspec.Difference{d("a", "mtu"), d("c", "up")})
	if fmt.Sprint(got) != fmt.Sprint([]linkspec.Difference{before[0], before[2]}) {
		t.Errorf("repaired: %v", got)
	}
}
