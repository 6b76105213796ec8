package reconcile_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/kerneltest"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// masked is bridgeState with masquerading.
func masked(a attachment.Attachment, backend linkspec.NATBackend) linkspec.State {
	s := bridgeState(a, true)
	s.Masquerade = &linkspec.Masquerade{Backend: backend, Network: a.Network, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}
	if backend == linkspec.IPTables {
		s.Masquerade.ContainerID = a.ContainerID
	}
	return s
}

var backends = []linkspec.NATBackend{linkspec.NFTables, linkspec.IPTables}

// leave detaches without a delegate.
func leave(t *testing.T, k reconcile.Kernel, a attachment.Attachment, backend linkspec.NATBackend) {
	t.Helper()
	if err := errors.Join(
		disconnect(k, a, nil),
		reconcile.ReleaseMasquerade(t.Context(), k, *masked(a, backend).Masquerade, "br0"),
		reconcile.Forget(t.Context(), k, a), reconcile.RemoveIn(k, "", a), reconcile.ReleaseBridge(t.Context(), k, "br0"),
	); err != nil {
		t.Fatal(err)
	}
}

func TestMasqueradeIsAsLongAsThereArePorts(t *testing.T) {
	for _, backend := range backends {
		t.Run(string(backend), func(t *testing.T) {
			k := fake.New()
			before := links(k)
			holds := func(a attachment.Attachment, want string) {
				t.Helper()
				diffs, err := reconcile.Diff(k, masked(a, backend))
				text := ""
				for _, d := range diffs {
					text += d.String()
				}
				if err != nil || text != want {
					t.Errorf("difference is %q, error %v, want %q", text, err, want)
				}
			}
			apply(t, k, tapState(vm1), claimState(vm1), masked(vm1, backend))
			apply(t, k, tapState(vm2), claimState(vm2), masked(vm2, backend))
			holds(vm1, "")
			leave(t, k, vm1, backend)
			holds(vm2, "")
			k.Flush()
			holds(vm2, "masquerading of network lab for 10.0.0.0/24 is missing")
			apply(t, k, tapState(vm1), claimState(vm1), masked(vm1, backend))
			holds(vm1, "")
			leave(t, k, vm2, backend)
			holds(vm1, "")
			leave(t, k, vm1, backend)
			if text := k.Snapshot(); strings.Contains(text, "masquerade") || links(k) != before {
				t.Errorf("left:\n%s", text)
			}
		})
	}
}

// A tap that is claimed and not on its bridge yet does not count: if its ADD
// fails, nobody else would remove the rules.
func TestMasqueradeDoesNotWaitForAClaim(t *testing.T) {
	k := fake.New()
	apply(t, k, tapState(vm1), claimState(vm1), masked(vm1, linkspec.NFTables), tapState(vm2), claimState(vm2))
	leave(t, k, vm1, linkspec.NFTables)
	if text := k.Snapshot(); strings.Contains(text, "masquerade") {
		t.Errorf("left:\n%s", text)
	}
	apply(t, k, masked(vm2, linkspec.NFTables))
}

// The ADD of a further guest changes nothing, and neither does its DEL.
func TestMasqueradeIsLeftAloneWhileItStands(t *testing.T) {
	k := fake.New()
	apply(t, k, tapState(vm1), claimState(vm1), masked(vm1, linkspec.NFTables))
	f := kerneltest.Faulty(k, 0, nil)
	apply(t, f, tapState(vm2), claimState(vm2), masked(vm2, linkspec.NFTables))
	leave(t, f, vm2, linkspec.NFTables)
	for _, call := range f.Calls() {
		if call == "Masquerade lab" || call == "Unmasquerade lab" || call == "Links" {
			t.Errorf("there was a call of %s", call)
		}
	}
}

// Whatever call fails, an ADD leaves no rule, and one that others rely on stays.
func TestMasqueradeIsAllOrNothing(t *testing.T) {
	for _, backend := range backends {
		for _, others := range []bool{false, true} {
			for n := 1; ; n++ {
				k := fake.New()
				if others {
					apply(t, k, tapState(vm2), claimState(vm2), masked(vm2, backend))
				}
				apply(t, k, tapState(vm1), claimState(vm1))
				before := links(k)
				rules, _ := k.Masquerades(linkspec.Masquerade{Backend: backend, Network: "lab"})
				f := kerneltest.Faulty(k, n, errInjected)
				_, err := reconcile.Apply(t.Context(), f, masked(vm1, backend))
				if err == nil {
					if len(f.Calls()) >= n {
						t.Errorf("%s: the failure of %s was swallowed", backend, f.Calls()[n-1])
					}
					break
				}
				after, _ := k.Masquerades(linkspec.Masquerade{Backend: backend, Network: "lab"})
				if len(after) != len(rules) || links(k) != before {
					t.Errorf("%s: after failing call %d, %s, there is:\n%s", backend, n, f.Calls()[n-1], k.Snapshot())
				}
			}
		}
	}
}

// unsupported is a host without what the backend needs.
type unsupported struct{ reconcile.Kernel }

func (unsupported) Masquerades(linkspec.Masquerade) ([]linkspec.Masquerade, error) {
	return nil, errors.ErrUnsupported
}
func (unsupported) Unmasquerade(linkspec.Masquerade) error { return errors.ErrUnsupported }

// Whoever removes is told of a backend that is missing, and may forgive it.
func TestRemovalTellsOfAMissingBackend(t *testing.T) {
	k := unsupported{fake.New()}
	for _, backend := range backends {
		if err := reconcile.ReleaseMasquerade(t.Context(), k, *masked(vm1, backend).Masquerade, "br0"); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	if err := reconcile.SweepMasquerade(t.Context(), k, "lab", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := reconcile.Apply(t.Context(), k, masked(vm1, linkspec.NFTables)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("ADD without a backend: error %v", err)
	}
}

func TestSweepMasquerade(t *testing.T) {
	k := fake.New()
	for _, id := range []string{"vm1", "vm2"} {
		m := linkspec.Masquerade{Backend: linkspec.IPTables, Network: "lab", ContainerID: id}
		if err := k.Masquerade(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := reconcile.SweepMasquerade(t.Context(), k, "lab", []attachment.Attachment{vm1}); err != nil {
		t.Fatal(err)
	}
	got, err := k.Masquerades(linkspec.Masquerade{Backend: linkspec.IPTables, Network: "lab"})
	if err != nil || len(got) != 1 || got[0].ContainerID != "vm1" {
		t.Errorf("left are %v, error %v", got, err)
	}
}
