package reconcile_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/fake"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// limited is bridgeState with limits in both directions, of some subnets.
func limited(a attachment.Attachment) linkspec.State {
	s := bridgeState(a, true)
	slow := linkspec.Limit{Rate: 1e6}
	shaping := &linkspec.Shaping{Limits: linkspec.Limits{
		ToGuest: slow, FromGuest: slow, ShapedSubnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}.Canonical()}
	shaping.ToGuestVia, shaping.FromGuestVia = a.Devices()
	links := []linkspec.Link{s.Links[0]}
	for _, name := range []string{shaping.ToGuestVia, shaping.FromGuestVia} {
		links = append(links, linkspec.Link{
			Role: linkspec.Owned, Kind: linkspec.IFB, Name: name, Alias: new(attachment.Tag{Attachment: a}.String()), Up: new(true),
		})
	}
	port := s.Links[1]
	port.Shaping = shaping
	s.Links = append(links, port)
	return s
}

// A limit that is amiss is a difference, in words that say which.
func TestLimitsAreCompared(t *testing.T) {
	toGuest, fromGuest := vm1.Devices()
	for _, c := range []struct {
		name   string
		change func(*fake.Kernel)
		want   []string
	}{
		{"nothing", func(*fake.Kernel) {}, nil},
		{"device down", func(k *fake.Kernel) { k.Edit(fromGuest, func(l *linkspec.Link) { l.Up = new(false) }) }, []string{
			fromGuest + ": up is off, expected on",
		}},
		{"device gone", func(k *fake.Kernel) { k.Remove(toGuest) }, []string{
			toGuest + ": link is none, expected an ifb",
			vm1.TapName() + ": limit is to guest none from guest rate 1000000 burst 121120 queue 147048 via " + fromGuest + " only 10.0.0.0/8, expected to guest rate 1000000 burst 121120 queue 147048 via " +
				toGuest + " from guest rate 1000000 burst 121120 queue 147048 via " + fromGuest + " only 10.0.0.0/8",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := fake.New()
			apply(t, k, tapState(vm1), claimState(vm1), limited(vm1))
			c.change(k)
			diffs, err := reconcile.Diff(k, limited(vm1))
			var got []string
			for _, d := range diffs {
				got = append(got, d.String())
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

// A detached attachment has neither limits nor devices; a port that is not ours
// is given back without.
func TestDisconnectTakesLimitsOff(t *testing.T) {
	for _, own := range []bool{true, false} {
		k := fake.New()
		apply(t, k, tapState(vm1), claimState(vm1), limited(vm1))
		if !own {
			k.Edit(vm1.TapName(), func(l *linkspec.Link) { l.AltNames, l.Alias = []string{vm1.PortHandle()}, new("") })
		}
		if !strings.Contains(links(k), "limit to guest") {
			t.Fatalf("no limits\n%s", links(k))
		}
		devices, err := reconcile.Devices(k, vm1)
		if err != nil || len(devices) != 2 {
			t.Fatalf("devices are %v, %v", devices, err)
		}
		if !own { // somebody deleted them
			for _, d := range devices {
				k.Remove(d.Name)
			}
			devices = nil
		}
		if err := errors.Join(disconnect(k, vm1, devices), reconcile.DeleteDevices(k, devices)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(links(k), "limit to guest") {
			t.Errorf("own %t: limits are left\n%s", own, links(k))
		}
		toGuest, fromGuest := vm1.Devices()
		if exists(k, toGuest) || exists(k, fromGuest) {
			t.Error("a device is left")
		}
	}
}

// Nobody else's device is taken for ours, whatever it is called.
func TestDevicesOfOthers(t *testing.T) {
	toGuest, fromGuest := vm1.Devices()
	tag := attachment.Tag{Attachment: vm1}.String()
	for _, l := range []linkspec.Link{
		{Kind: linkspec.IFB, Name: toGuest},
		{Kind: linkspec.IFB, Name: toGuest, Alias: new("somebody")},
		{Kind: linkspec.IFB, Name: fromGuest, Alias: new(attachment.Tag{Attachment: vm2}.String())},
		{Kind: "dummy", Name: fromGuest, Alias: &tag},
	} {
		k := fake.New()
		k.Add(l)
		if devices, err := reconcile.Devices(k, vm1); err != nil || devices != nil {
			t.Errorf("%v is taken for ours, %v", l, err)
		}
	}
}

// GC finds devices without a port, of the network's attachments that are not valid.
func TestStaleDevices(t *testing.T) {
	k := fake.New()
	side := attachment.Attachment{Network: "side", ContainerID: "vm1", IfName: "eth0"}
	for _, a := range []attachment.Attachment{vm1, vm2, side} {
		toGuest, _ := a.Devices()
		k.Add(linkspec.Link{Kind: linkspec.IFB, Name: toGuest, Alias: new(attachment.Tag{Attachment: a}.String())})
	}
	k.Add(linkspec.Link{Kind: linkspec.IFB, Name: "ifb0"})
	stale, err := reconcile.StalePorts(k, "lab", []attachment.Attachment{vm2})
	toGuest, _ := vm1.Devices()
	if err != nil || len(stale) != 1 || stale[0].Link.Name != toGuest || !stale[0].Device || stale[0].Own {
		t.Errorf("stale are %+v, %v", stale, err)
	}
	if taps, err := reconcile.StaleTaps(k, "lab", nil); err != nil || len(taps) > 0 {
		t.Errorf("stale taps are %+v, %v", taps, err)
	}
}
