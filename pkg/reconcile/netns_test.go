package reconcile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/kerneltest"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

func (f *faulty) LinkIn(netns, name string) (linkspec.Link, error) {
	if err := f.call(); err != nil {
		return linkspec.Link{}, err
	}
	return f.Kernel.LinkIn(netns, name)
}

const vmm = "/run/netns/vmm"

// awayStates are all that vm's ADDs declare for a tap in the VMM's namespace.
func awayStates(a attachment.Attachment) []linkspec.State {
	tap := tapState(a)
	tap.Links[0].Netns = vmm
	claim := linkspec.State{Links: []linkspec.Link{{
		Role: linkspec.Owned, Kind: linkspec.Veth, Name: a.PortName(), Peer: &linkspec.Place{Netns: vmm, Name: a.InnerName()},
		Alias: new(attachment.Tag{Attachment: a}.String()), AltNames: []string{a.PortHandle()},
	}}}
	all := bridgeState(a, true)
	all.Links[1].Kind, all.Links[1].Name = linkspec.Veth, a.PortName()
	inner := linkspec.Link{Role: linkspec.Adopted, Kind: linkspec.Veth, Name: a.InnerName(), Netns: vmm, MTU: new(1400), Up: new(true)}
	end := inner
	end.Kind, end.Name, end.Splice = linkspec.Tap, a.TapName(), new(a.InnerName())
	end.Unqueued = new(true)
	upper := linkspec.Link{
		Role: linkspec.Owned, Kind: linkspec.Upper, Name: a.UpperName(), Lower: &linkspec.Place{Netns: vmm, Name: a.TapName()},
		Alias: new(attachment.Tag{Attachment: a}.String()), Deaf: new(true), IPv6: new(false), Up: new(true),
	}
	port := all.Links[1]
	port.Shortcut = &upper.Name
	all.Links = append(all.Links[:1], inner, end, upper, port)
	return []linkspec.State{tap, claim, all}
}

func newAway() *fake.Kernel {
	k := fake.New()
	k.AddNetns(vmm)
	return k
}

func TestApplyAway(t *testing.T) {
	k := newAway()
	states := awayStates(vm1)
	apply(t, k, states[:2]...)
	receipt, err := reconcile.Apply(t.Context(), k, states[2])
	if err != nil {
		t.Fatal(err)
	}
	tap := receipt.Observed[linkspec.Key(vmm, vm1.TapName())]
	if tap.Netns != vmm || *tap.Splice != vm1.InnerName() || !*tap.Up {
		t.Errorf("tap is\n%s", tap)
	}
	if exists(k, vm1.TapName()) {
		t.Error("the tap is on the host")
	}
	k.RemoveNetns(vmm)
	diffs, err := reconcile.Diff(k, states[2])
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range diffs {
		names = append(names, d.String())
	}
	for _, l := range states[2].Links[1:] {
		if !strings.Contains(strings.Join(names, "\n"), l.Key()+": link is none") {
			t.Errorf("after the namespace went, %s is not missed: %q", l.Key(), names)
		}
	}
}

// Whatever call fails, what was done before is undone, in both namespaces.
func TestApplyAwayIsAllOrNothing(t *testing.T) {
	for step := range awayStates(vm1) {
		for _, torn := range []bool{false, true} {
			for n := 1; ; n++ {
				k := newAway()
				apply(t, k, awayStates(vm2)...)
				apply(t, k, awayStates(vm1)[:step]...)
				before := links(k)
				f := kerneltest.Faulty(k, n, errInjected)
				f.Torn = torn
				_, err := reconcile.Apply(t.Context(), f, awayStates(vm1)[step])
				if len(f.Calls()) < n {
					break
				}
				if err == nil {
					t.Errorf("call %d of state %d, %q: no error", n, step, f.Calls()[n-1])
					continue
				}
				k.Exit()
				if after := links(k); after != before {
					t.Errorf("call %d of state %d, %q: left\n%s\nbefore\n%s", n, step, f.Calls()[n-1], after, before)
				}
			}
		}
	}
}

func TestTakenNamesAway(t *testing.T) {
	k := newAway()
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: vm1.TapName(), Netns: vmm})
	_, err := reconcile.Apply(t.Context(), k, awayStates(vm1)[0])
	wantCode(t, err, cnierr.Exists)
	k.Add(linkspec.Link{Kind: "dummy", Name: vm1.PortName()})
	_, err = reconcile.Apply(t.Context(), k, awayStates(vm1)[1])
	wantCode(t, err, cnierr.Exists)
}

// DEL finds port and tap, wherever, and nobody else's.
func TestRemoveAway(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(k *fake.Kernel)
		netns  string
		port   bool // stays
		inside bool // the tap stays
	}{
		{"as made", func(*fake.Kernel) {}, vmm, false, false},
		{"no netns", func(*fake.Kernel) {}, "", false, true},
		{"netns gone", func(k *fake.Kernel) { k.RemoveNetns(vmm) }, vmm, false, false},
		{"handle gone", func(k *fake.Kernel) { k.Edit(vm1.PortName(), func(l *linkspec.Link) { l.AltNames = nil }) }, vmm, false, false},
		{"tag gone", func(k *fake.Kernel) { k.Edit(vm1.PortName(), func(l *linkspec.Link) { l.Alias = new("") }) }, vmm, false, false},
		{"both gone", func(k *fake.Kernel) {
			k.Edit(vm1.PortName(), func(l *linkspec.Link) { l.Alias, l.AltNames = new(""), nil })
		}, vmm, true, false},
		{"another's tag", func(k *fake.Kernel) {
			k.Edit(vm1.PortName(), func(l *linkspec.Link) { l.Alias, l.AltNames = new(attachment.Tag{Attachment: vm2}.String()), nil })
		}, vmm, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newAway()
			apply(t, k, awayStates(vm1)...)
			c.edit(k)
			for range 2 {
				err := errors.Join(disconnect(k, vm1, nil), reconcile.Forget(t.Context(), k, vm1), reconcile.RemovePort(k, vm1), reconcile.RemoveIn(k, c.netns, vm1))
				if err != nil {
					t.Fatal(err)
				}
			}
			if exists(k, vm1.PortName()) != c.port {
				t.Errorf("port stays: %v, want %v", !c.port, c.port)
			}
			if exists(k, vm1.UpperName()) {
				t.Error("upper device stays")
			}
			if _, err := k.LinkIn(vmm, vm1.TapName()); (err == nil) != c.inside {
				t.Errorf("tap stays: %v, want %v", !c.inside, c.inside)
			}
		})
	}
}

// GC finds ports without a valid attachment, with or without a handle.
func TestSweepAway(t *testing.T) {
	for _, handle := range []bool{true, false} {
		k := newAway()
		apply(t, k, awayStates(vm1)...)
		apply(t, k, awayStates(vm2)...)
		if !handle {
			k.Edit(vm1.PortName(), func(l *linkspec.Link) { l.AltNames = nil })
			k.Edit(vm2.PortName(), func(l *linkspec.Link) { l.AltNames = nil })
		}
		taps, err := reconcile.StaleTaps(k, "lab", nil)
		if err != nil || len(taps) != 0 {
			t.Errorf("stale taps: %v, error %v", taps, err)
		}
		stale, err := reconcile.StalePorts(k, "lab", []attachment.Attachment{vm2})
		if err != nil || len(stale) != 2 || !stale[1].Device || stale[1].Link.Name != vm1.UpperName() || stale[0].Link.Name != vm1.PortName() || !stale[0].Own || !stale[0].Known || stale[0].Attachment != vm1 {
			t.Fatalf("stale ports: %+v, error %v", stale, err)
		}
		if err := reconcile.DeleteStale(k, stale); err != nil || exists(k, vm1.PortName()) || exists(k, vm1.UpperName()) || !exists(k, vm2.UpperName()) {
			t.Errorf("port is still there, error %v", err)
		}
	}
}
