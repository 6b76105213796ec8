package reconcile_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// uplinkState is that of a bridge to which a NIC is lent that was up, or not.
func uplinkState(a attachment.Attachment, own, up bool) linkspec.State {
	s := bridgeState(a, own)
	nic := linkspec.Link{Role: linkspec.Lent, Name: "eth1", Master: new("br0"), Up: new(true), AltNames: []string{attachment.UplinkHandle("br0", up)}}
	s.Links = []linkspec.Link{s.Links[0], nic, s.Links[1]}
	return s
}

// uplinkHost has a NIC, a bridge of somebody's unless own, and the VM's tap.
func uplinkHost(t *testing.T, own, up bool) *fake.Kernel {
	t.Helper()
	k := fake.New()
	k.Add(linkspec.Link{Name: "eth1", Up: &up, MTU: new(9000)})
	if !own {
		k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", MAC: foreignMAC, Up: new(true), Addresses: []linkspec.Address{gateway}})
	}
	apply(t, k, tapState(vm1), claimState(vm1))
	return k
}

// Whichever call fails, the NIC is the host's as before; and it is when all went
// well and is taken back.
func TestLendingIsAllOrNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		own, up bool
	}{{"our bridge", true, false}, {"our bridge, NIC up", true, true}, {"somebody's bridge", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; ; n++ {
				k := uplinkHost(t, c.own, c.up)
				before := links(k)
				f := &faulty{Kernel: k, left: n}
				r, err := reconcile.Apply(context.Background(), f, uplinkState(vm1, c.own, c.up))
				met := f.left <= 0
				if f.left = 0; err == nil { // no more faults
					err = r.Undo()
				}
				if after := links(k); after != before {
					t.Fatalf("call %d, %v: left\n%s\nwhere there was\n%s", n, err, after, before)
				}
				if !met {
					return
				}
			}
		})
	}
}

// However often giving the NIC back is broken off, the next time does the rest.
func TestReleaseUplinkCanBeBrokenOff(t *testing.T) {
	for n := 1; ; n++ {
		k := uplinkHost(t, true, false)
		before := links(k)
		apply(t, k, uplinkState(vm1, true, false))
		if err := errors.Join(reconcile.ReleaseUplink(t.Context(), k, "br0"), reconcile.ReleaseBridge(t.Context(), k, "br0")); err != nil || !exists(k, "br0") {
			t.Fatalf("with a guest: %v", err)
		}
		if l, _ := k.Link("eth1"); *l.Master != "br0" {
			t.Fatal("the uplink of a guest was taken off")
		}
		if err := disconnect(k, vm1, nil); err != nil {
			t.Fatal(err)
		}
		f := &faulty{Kernel: k, left: n}
		broken := reconcile.ReleaseUplink(t.Context(), f, "br0")
		if err := errors.Join(reconcile.ReleaseUplink(t.Context(), k, "br0"), reconcile.ReleaseBridge(t.Context(), k, "br0")); err != nil {
			t.Fatal(err)
		}
		if l, _ := k.Link("eth1"); *l.Master != "" || *l.Up || len(l.AltNames) > 0 || exists(k, "br0") {
			t.Errorf("call %d, %v: left\n%s\nwhere there was\n%s", n, broken, links(k), before)
		}
		if f.left > 0 {
			return
		}
	}
}

// A NIC that somebody moved meanwhile is let go, not taken away from there.
func TestReleaseOfAnUplinkThatMoved(t *testing.T) {
	k := uplinkHost(t, true, false)
	apply(t, k, uplinkState(vm1, true, false))
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br9"})
	nic, _ := k.Link("eth1")
	if err := errors.Join(k.Set(nic, linkspec.Link{Master: new("br9")}), disconnect(k, vm1, nil), reconcile.ReleaseUplink(t.Context(), k, "br0")); err != nil {
		t.Fatal(err)
	}
	if l, _ := k.Link("eth1"); *l.Master != "br9" || !*l.Up || len(l.AltNames) > 0 {
		t.Errorf("NIC is\n%s", l)
	}
}

func TestReleaseUplinkLooksAgainUnderTheLock(t *testing.T) {
	k := uplinkHost(t, true, false)
	apply(t, k, uplinkState(vm1, true, false))
	k.Remove(vm1.TapName())
	unlock, err := k.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiting := &lockWatch{Kernel: k, asked: make(chan struct{})}
	done := make(chan error)
	go func() { done <- reconcile.ReleaseUplink(t.Context(), waiting, "br0") }()
	<-waiting.asked
	attach(t, k, vm2)
	unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if l, _ := k.Link("eth1"); *l.Master != "br0" {
		t.Error("an uplink in use was taken off")
	}
}

// A route would lead nowhere: it is refused before anything is changed.
func TestRoutedNICIsNotLent(t *testing.T) {
	k := uplinkHost(t, true, true)
	k.AddRoute("eth1", netip.MustParsePrefix("198.51.100.0/24"))
	before := links(k)
	for _, s := range []linkspec.State{{Links: []linkspec.Link{{Role: linkspec.Lent, Name: "eth1"}}}, uplinkState(vm1, true, true)} {
		_, err := reconcile.Apply(t.Context(), k, s)
		wantCode(t, err, cnierr.Config)
		if !strings.Contains(err.Error(), "198.51.100.0/24") || links(k) != before {
			t.Errorf("error is %v, left\n%s", err, links(k))
		}
	}
}
