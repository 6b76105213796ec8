package fake_test

import (
	"errors"
	"net"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/kerneltest"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

func TestConformance(t *testing.T) {
	kerneltest.Run(t, func(*testing.T) reconcile.Kernel { return fake.New() })
}

func TestNetnsConformance(t *testing.T) {
	kerneltest.RunNetns(t, func(*testing.T) (reconcile.Kernel, string) {
		k := fake.New()
		k.AddNetns("/run/netns/vmm")
		return kerneltest.Faulty(k, 0, nil), "/run/netns/vmm"
	})
}

// What fails, and what was called, is told by a wrapper that changes nothing else.
func TestConformanceOfFaulty(t *testing.T) {
	kerneltest.Run(t, func(*testing.T) reconcile.Kernel { return kerneltest.Faulty(fake.New(), 0, nil) })
}

func TestFaulty(t *testing.T) {
	fault := errors.New("fault")
	for n, want := range []string{
		"", "Create tap0", "Link tap0", "Set tap0", "Keep tap0", "Discard tap0", "Links", "Ports br0", "Holder br0 02:00:00:00:00:01",
		"Sysctl net.ipv4.ip_forward", "SetSysctl net.ipv4.ip_forward 1", "Shaping tap0", "Masquerades lab", "Masquerade lab", "Unmasquerade lab", "Lock", "Delete tap0",
	} {
		k := fake.New()
		k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
		f := kerneltest.Faulty(k, n, fault)
		err := useAll(t, f)
		calls := f.Calls()
		if n == 0 {
			if err != nil || len(calls) != 16 {
				t.Errorf("no fault: error %v, calls %q", err, calls)
			}
			continue
		}
		if !errors.Is(err, fault) || len(calls) != n || calls[n-1] != want {
			t.Errorf("call %d: error %v, calls %q, want the last to be %q", n, err, calls, want)
		}
	}
}

// useAll makes each call once, up to the first that fails.
func useAll(t *testing.T, k reconcile.Kernel) error {
	t.Helper()
	draft, err := k.Create(linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	if err != nil {
		return err
	}
	l, err := k.Link("tap0")
	if err != nil {
		return err
	}
	for _, call := range []func() error{
		func() error { return k.Set(l, linkspec.Link{Master: new("br0")}) },
		draft.Keep,
		draft.Discard,
		func() error { _, err := k.Links(); return err },
		func() error { _, err := k.Ports("br0"); return err },
		func() error { _, err := k.Holder("br0", net.HardwareAddr{2, 0, 0, 0, 0, 1}); return err },
		func() error { _, err := k.Sysctl("net.ipv4.ip_forward"); return err },
		func() error { return k.SetSysctl("net.ipv4.ip_forward", "1") },
		func() error { _, err := k.Shaping(l, linkspec.Shaping{}); return err },
		func() error { _, err := k.Masquerades(linkspec.Masquerade{Network: "lab"}); return err },
		func() error { return k.Masquerade(linkspec.Masquerade{Network: "lab"}) },
		func() error { return k.Unmasquerade(linkspec.Masquerade{Network: "lab"}) },
		func() error {
			unlock, err := k.Lock(t.Context())
			if err == nil {
				unlock()
			}
			return err
		},
		func() error { return k.Delete(l) },
	} {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

func TestTorn(t *testing.T) {
	k := fake.New()
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	l, err := k.Link("tap0")
	if err != nil {
		t.Fatal(err)
	}
	fault := errors.New("fault")
	f := kerneltest.Faulty(k, 1, fault)
	f.Torn = true
	if err = f.Set(l, linkspec.Link{Master: new("br0"), Up: new(true)}); !errors.Is(err, fault) {
		t.Errorf("error is %v", err)
	}
	got, err := k.Link("tap0")
	if err != nil {
		t.Fatal(err)
	}
	if *got.Master != "br0" || *got.Up {
		t.Errorf("not torn:\n%v", got)
	}
}

// A bridge that an administrator made follows its ports; one of ours that has
// its MTU set does not, which the suite tests on the real kernel, too.
func TestFollow(t *testing.T) {
	k := fake.New()
	k.Add(linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "tap0", MTU: new(1400), MAC: net.HardwareAddr{0x02, 0, 0, 0, 0, 0xff}, Master: new("br0")})
	k.Add(linkspec.Link{Kind: linkspec.Tap, Name: "tap1", MTU: new(1300), MAC: net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}, Master: new("br0")})
	check := func(mtu int, mac string) {
		t.Helper()
		l, err := k.Link("br0")
		if err != nil {
			t.Fatal(err)
		}
		if *l.MTU != mtu || l.MAC.String() != mac {
			t.Errorf("bridge has MTU %d and MAC address %s, want %d and %s", *l.MTU, l.MAC, mtu, mac)
		}
	}
	check(1300, "02:00:00:00:00:01")
	k.Remove("tap1")
	check(1400, "02:00:00:00:00:ff")
}

func TestExit(t *testing.T) {
	k := fake.New()
	before := k.Snapshot()
	if _, err := k.Create(linkspec.Link{Kind: linkspec.Tap, Name: "tap0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.Snapshot() == before {
		t.Error("snapshot shows neither tap nor lock")
	}
	k.Exit()
	if after := k.Snapshot(); after != before {
		t.Errorf("left after exit:\n%s\nbefore:\n%s", after, before)
	}
}
