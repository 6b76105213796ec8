package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

func exists(k *fake.Kernel, name string) bool {
	_, err := k.Link(name)
	return err == nil
}

func TestRemoveKnowsItsOwn(t *testing.T) {
	name := vm1.TapName()
	for _, c := range []struct {
		name string
		edit func(*linkspec.Link)
		gone bool
	}{
		{"as made", func(*linkspec.Link) {}, true},
		{"renamed", func(l *linkspec.Link) { l.Name = "x" }, true},
		{"tag gone", func(l *linkspec.Link) { l.Alias = new("") }, true},
		{"handle gone", func(l *linkspec.Link) { l.AltNames = nil }, true},
		{"handle gone, at another name", func(l *linkspec.Link) { l.AltNames, l.Name = nil, "eth0" }, true},
		{"both gone", func(l *linkspec.Link) { l.AltNames, l.Alias = nil, new("") }, false},
		{"another's tag", func(l *linkspec.Link) { l.AltNames, l.Alias = nil, new(attachment.Tag{Attachment: vm2}.String()) }, false},
		{"no tap", func(l *linkspec.Link) { l.Kind = "dummy" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := fake.New()
			apply(t, k, tapState(vm1))
			k.Edit(name, c.edit)
			before := len(mustLinks(t, k))
			for range 2 { // the second finds nothing, which is no error
				if err := reconcile.RemoveIn(k, "", vm1, "eth0"); err != nil {
					t.Fatal(err)
				}
			}
			if gone := len(mustLinks(t, k)) < before; gone != c.gone {
				t.Errorf("gone: %v, want %v", gone, c.gone)
			}
		})
	}
}

func mustLinks(t *testing.T, k *fake.Kernel) []linkspec.Link {
	t.Helper()
	all, err := k.Links()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDisconnectAndForget(t *testing.T) {
	k := fake.New()
	if err := errors.Join(disconnect(k, vm1, nil), reconcile.Forget(t.Context(), k, vm1)); err != nil {
		t.Fatalf("with nothing there: %v", err)
	}
	attach(t, k, vm1)
	if err := disconnect(k, vm1, nil); err != nil {
		t.Fatal(err)
	}
	l, _ := k.Link(vm1.TapName())
	if *l.Master != "" || *l.Up || !slices.Contains(l.AltNames, vm1.PortHandle()) {
		t.Errorf("disconnected:\n%s", l)
	}
	if err := reconcile.Forget(t.Context(), k, vm1); err != nil {
		t.Fatal(err)
	}
	l, _ = k.Link(vm1.TapName())
	if slices.Contains(l.AltNames, vm1.PortHandle()) || !slices.Contains(l.AltNames, vm1.TapHandle()) {
		t.Errorf("forgotten:\n%s", l)
	}

	// Without its handle, and put on another bridge by hand: still the attachment's own tap.
	k = fake.New()
	attach(t, k, vm1)
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br9"})
	l, _ = k.Link(vm1.TapName())
	if err := k.Set(l, linkspec.Link{Master: new("br9"), NoAltNames: []string{vm1.PortHandle()}}); err != nil {
		t.Fatal(err)
	}
	if err := disconnect(k, vm1, nil); err != nil {
		t.Fatal(err)
	}
	if l, _ = k.Link(vm1.TapName()); *l.Master != "" {
		t.Errorf("still a port of %s", *l.Master)
	}
}

// order fails the test when a port on a bridge loses what it is found or held by.
type order struct {
	*lockWatch
	t *testing.T
}

func (o *order) Set(l, change linkspec.Link) error {
	if now, err := o.Link(l.Name); err == nil && *now.Master == "br0" && (change.NoAltNames != nil || change.Guard != nil) {
		o.t.Errorf("%s loses %s on its bridge", l.Name, change)
	}
	return o.lockWatch.Set(l, change)
}

// What a repair that began before DEL does to the port, DEL undoes: the port is on none
// of the bridges once nobody would find it there.
func TestForgetUndoesARepair(t *testing.T) {
	gc := func(k reconcile.Kernel) error {
		stale, err := reconcile.StalePorts(k, "lab", nil)
		if err != nil || len(stale) != 1 {
			return fmt.Errorf("stale are %v, %w", stale, err)
		}
		return reconcile.ForgetStale(t.Context(), k, stale[0], "lab", "br0")
	}
	del := func(k reconcile.Kernel) error { return reconcile.Forget(t.Context(), k, vm1, "", "br0") }
	for name, c := range map[string]struct {
		own    bool
		forget func(reconcile.Kernel) error
	}{"own tap": {true, del}, "somebody's tap": {false, del}, "somebody's stale tap": {false, gc}} {
		t.Run(name, func(t *testing.T) {
			k := fake.New()
			if c.own {
				apply(t, k, tapState(vm1))
			} else {
				k.Add(linkspec.Link{Kind: linkspec.Tap, Name: vm1.TapName()})
			}
			apply(t, k, claimState(vm1), guarded(vm1))
			port, err := reconcile.Held(k, vm1)
			if err != nil {
				t.Fatal(err)
			}
			if err = k.Set(port, linkspec.Link{Master: new(""), Up: new(false)}); err != nil {
				t.Fatal(err)
			}
			unlock, err := k.Lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			waiting := &lockWatch{Kernel: k, asked: make(chan struct{})}
			done := make(chan error)
			go func() { done <- c.forget(&order{waiting, t}) }()
			select {
			case <-waiting.asked:
			case err = <-done:
				t.Fatalf("it did not wait for the lock: %v", err)
			}
			if err = k.Set(port, linkspec.Link{Master: new("br0"), Up: new(true)}); err != nil {
				t.Fatal(err)
			}
			unlock()
			if err = <-done; err != nil {
				t.Fatal(err)
			}
			l, _ := k.Link(vm1.TapName())
			if g, err := k.Guard(l); *l.Master != "" || *l.Up || slices.Contains(l.AltNames, vm1.PortHandle()) || g.Off() == c.own || err != nil {
				t.Errorf("it is, guarded %v,\n%s", !g.Off(), l)
			}
		})
	}
}

func TestReleaseBridge(t *testing.T) {
	for _, c := range []struct {
		name string
		host func(*testing.T, *fake.Kernel)
		gone bool
	}{
		{"ours and idle", func(t *testing.T, k *fake.Kernel) {
			attach(t, k, vm1)
			k.Remove(vm1.TapName())
		}, true},
		{"ours and in use", func(t *testing.T, k *fake.Kernel) { attach(t, k, vm1) }, false},
		{"somebody's", func(_ *testing.T, k *fake.Kernel) { k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0"}) }, false},
		{"no bridge", func(_ *testing.T, k *fake.Kernel) {
			k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "br0", Alias: new(attachment.BridgeTag)})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := fake.New()
			if err := reconcile.ReleaseBridge(t.Context(), k, "br0"); err != nil {
				t.Fatalf("with nothing there: %v", err)
			}
			c.host(t, k)
			if err := reconcile.ReleaseBridge(t.Context(), k, "br0"); err != nil {
				t.Fatal(err)
			}
			if gone := !exists(k, "br0"); gone != c.gone {
				t.Errorf("gone: %v, want %v", gone, c.gone)
			}
		})
	}
}

// The lock keeps a bridge that somebody is about to join: what was idle before
// the wait for it may be in use after.
func TestReleaseBridgeLooksAgainUnderTheLock(t *testing.T) {
	k := fake.New()
	attach(t, k, vm1)
	k.Remove(vm1.TapName())
	unlock, err := k.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiting := &lockWatch{Kernel: k, asked: make(chan struct{})}
	done := make(chan error)
	go func() { done <- reconcile.ReleaseBridge(t.Context(), waiting, "br0") }()
	<-waiting.asked
	attach(t, k, vm2)
	unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !exists(k, "br0") {
		t.Error("a bridge in use was deleted")
	}
}

// lockWatch tells when somebody asks for the lock.
type lockWatch struct {
	*fake.Kernel
	asked chan struct{}
}

func (w *lockWatch) Lock(ctx context.Context) (func(), error) {
	close(w.asked)
	return w.Kernel.Lock(ctx)
}

func TestSweeps(t *testing.T) {
	k := fake.New()
	other := attachment.Attachment{Network: "lan", ContainerID: "vm1", IfName: "eth0"}
	tapOnly := attachment.Attachment{Network: "lab", ContainerID: "vm3", IfName: "eth0"}
	bare := attachment.Attachment{Network: "lab", ContainerID: "vm4", IfName: "eth0"}
	attach(t, k, vm1)
	attach(t, k, vm2)
	attach(t, k, other)
	apply(t, k, tapState(tapOnly), tapState(bare))
	k.Edit(bare.TapName(), func(l *linkspec.Link) { l.AltNames = nil })
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "somebodys", Alias: new("vm5")})
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "held", AltNames: []string{attachment.Attachment{Network: "lab", ContainerID: "vm6", IfName: "eth0"}.PortHandle()}})
	k.Add(linkspec.Link{Kind: "dummy", Name: "d", Alias: new(attachment.Tag{Attachment: vm1}.String())})

	for _, c := range []struct {
		name  string
		sweep func(reconcile.Kernel, string, []attachment.Attachment) ([]reconcile.Stale, error)
		valid []attachment.Attachment
		want  []string
	}{
		{"taps, none valid", reconcile.StaleTaps, nil, []string{tapOnly.TapName(), bare.TapName()}},
		{"taps, all valid", reconcile.StaleTaps, []attachment.Attachment{vm1, vm2, tapOnly, bare}, nil},
		{"ports, none valid", reconcile.StalePorts, nil, []string{vm1.TapName(), vm2.TapName(), "held"}},
		{"ports, one valid", reconcile.StalePorts, []attachment.Attachment{vm2}, []string{vm1.TapName(), "held"}},
		{"valid on another network", reconcile.StalePorts, []attachment.Attachment{other}, []string{vm1.TapName(), vm2.TapName(), "held"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stale, err := c.sweep(k, "lab", c.valid)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range stale {
				got = append(got, s.Link.Name)
				if s.Own != (s.Link.Name != "held") || s.Known != s.Own {
					t.Errorf("%s: own %v, known %v", s.Link.Name, s.Own, s.Known)
				}
				if s.Known && s.Attachment.TapName() != s.Link.Name {
					t.Errorf("%s is taken for %v", s.Link.Name, s.Attachment)
				}
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("stale are %v, want %v", got, c.want)
			}
		})
	}

	stale, err := reconcile.StaleTaps(k, "lab", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err = errors.Join(reconcile.DeleteStale(k, stale), reconcile.DeleteStale(k, nil)); err != nil {
		t.Fatal(err)
	}
	if exists(k, tapOnly.TapName()) || exists(k, bare.TapName()) || !exists(k, vm1.TapName()) || !exists(k, "somebodys") {
		t.Error("the sweep took too much or too little")
	}
}

func TestStalePortOfSomebodyIsOnlyLetGo(t *testing.T) {
	k := fake.New()
	a := attachment.Attachment{Network: "lab", ContainerID: "vm6", IfName: "eth0"}
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "held", Master: new("br0"), Up: new(true), AltNames: []string{"mine", a.PortHandle()}})
	stale, err := reconcile.StalePorts(k, "lab", nil)
	if err != nil || len(stale) != 1 {
		t.Fatalf("stale are %v, %v", stale, err)
	}
	bridge, err := reconcile.DisconnectStale(k, stale[0])
	if err = errors.Join(err, reconcile.ForgetStale(t.Context(), k, stale[0], "lab")); err != nil || bridge != "br0" {
		t.Fatalf("it was on %q, %v", bridge, err)
	}
	l, err := k.Link("held")
	if err != nil || *l.Master != "" || !slices.Equal(l.AltNames, []string{"mine"}) {
		t.Errorf("held is now\n%s%v", l, err)
	}
}

func TestHeldPrefersTheHandle(t *testing.T) {
	k := fake.New()
	if _, err := reconcile.Held(k, vm1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with nothing there: %v", err)
	}
	apply(t, k, tapState(vm1))
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "foreign", AltNames: []string{vm1.PortHandle()}})
	if l, err := reconcile.Held(k, vm1); err != nil || l.Name != "foreign" {
		t.Errorf("held is %s, %v", l.Name, err)
	}
}

func disconnect(k reconcile.Kernel, a attachment.Attachment, devices []linkspec.Link) error {
	_, err := reconcile.Disconnect(k, a, devices)
	return err
}
