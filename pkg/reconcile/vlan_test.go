package reconcile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// vlanState is bridgeState with the port, and the gateway, in a VLAN.
func vlanState(a attachment.Attachment, own bool, id int) linkspec.State {
	s := bridgeState(a, own)
	device := linkspec.Link{
		Role: linkspec.Shared, Kind: linkspec.VLANDevice, Name: attachment.GatewayName("br0", id), Alias: new(attachment.GatewayTag),
		Parent: new("br0"), VLANID: &id, Carried: new(true), Up: new(true), MTU: new(1500), Addresses: s.Links[0].Addresses,
	}
	s.Links[0].Addresses, s.Links[0].VLANFiltering = nil, new(true)
	s.Links[1].VLANs = []linkspec.VLAN{{ID: id, PVID: true, Untagged: true}}
	s.Links = []linkspec.Link{s.Links[0], device, s.Links[1]}
	s.Filters = "br0"
	return s
}

// somebodys is a host with a bridge that is not ours, and filters.
func somebodys() *fake.Kernel {
	k := fake.New()
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", VLANFiltering: new(true), MAC: foreignMAC, Up: new(true)})
	return k
}

// A kernel without VLANs is found out before anything is made.
func TestKernelWithoutVLANs(t *testing.T) {
	for _, there := range []bool{false, true} {
		k := fake.New().WithoutVLANs()
		if there {
			k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
		}
		apply(t, k, tapState(vm1))
		before := k.Snapshot()
		claim := claimState(vm1)
		claim.Filters = "br0"
		for _, s := range []linkspec.State{claim, vlanState(vm1, true, 100)} {
			if _, err := reconcile.Apply(t.Context(), k, s); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("error is %v, want errors.ErrUnsupported", err)
			}
		}
		if after := k.Snapshot(); after != before {
			t.Errorf("was\n%s\nis\n%s", before, after)
		}
	}
}

// A bridge of ours that stands learns to filter, unless somebody's port is on it.
func TestBridgeLearnsToFilter(t *testing.T) {
	k := fake.New()
	attach(t, k, vm1)
	apply(t, k, tapState(vm2), claimState(vm2))
	k.Add(linkspec.Link{Name: "eth1", Master: new("br0")})
	before := k.Snapshot()
	s := vlanState(vm2, true, 100)
	s.Links[1].Addresses = nil
	if _, err := reconcile.Apply(t.Context(), k, s); err == nil || !strings.Contains(err.Error(), "cut off eth1") {
		t.Errorf("error is %v, want one about eth1", err)
	}
	if after := k.Snapshot(); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
	k.Remove("eth1")
	apply(t, k, s)
	l, err := k.Link(vm1.TapName())
	if err != nil || len(l.VLANs) != 1 || !l.VLANs[0].Native() || l.VLANs[0].ID != 1 {
		t.Errorf("VLANs of the first port are %v, error %v", l.VLANs, err)
	}
}

// Whichever call fails, everything is as it was; then the gateway goes with the
// last port that is natively in its VLAN.
func TestVLANRollbackAndRelease(t *testing.T) {
	for _, own := range []bool{true, false} {
		for n := 1; ; n++ {
			k := fake.New()
			if !own {
				k = somebodys()
			}
			apply(t, k, tapState(vm1), claimState(vm1))
			before := links(k)
			f := &faulty{Kernel: k, left: n}
			receipt, err := reconcile.Apply(t.Context(), f, vlanState(vm1, own, 100))
			if err == nil {
				if n < 10 {
					t.Fatalf("only %d calls", n)
				}
				f.left = 0 // no more faults
				if undoErr := receipt.Undo(); undoErr != nil {
					t.Error(undoErr)
				}
			}
			if after := links(k); after != before {
				t.Fatalf("own %v, call %d: was\n%s\nis\n%s", own, n, before, after)
			}
			if err == nil {
				break
			}
		}
	}
}

func TestReleaseGateway(t *testing.T) {
	k := somebodys()
	empty := links(k)
	apply(t, k, tapState(vm1), claimState(vm1), vlanState(vm1, false, 100))
	s := vlanState(vm2, false, 200)
	s.Links[1].Addresses = nil
	s.Links[2].VLANs = append(s.Links[2].VLANs, linkspec.VLAN{ID: 100}) // a trunk does not hold it
	apply(t, k, tapState(vm2), claimState(vm2), s)
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br1"})
	release := func(left string) {
		t.Helper()
		for _, err := range []error{
			reconcile.ReleaseGateway(t.Context(), k, "br0.100"), reconcile.ReleaseGateway(t.Context(), k, "br1"),
			reconcile.SweepGateways(t.Context(), k, "br0"), reconcile.SweepGateways(t.Context(), k, "br1"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := fmt.Sprint(exists(k, "br0.100"), exists(k, "br0.200"), exists(k, "br1")); got != left {
			t.Errorf("left are %s, want %s", got, left)
		}
	}
	release("true true true")
	if err := disconnect(k, vm1, nil); err != nil {
		t.Fatal(err)
	}
	release("false true true")
	if err := reconcile.RemoveIn(k, "", vm2); err != nil {
		t.Fatal(err)
	}
	release("false false true")
	k.Remove("br1")
	k.Remove(vm1.TapName())
	if after := links(k); after != empty {
		t.Errorf("was\n%s\nis\n%s", empty, after)
	}
}
