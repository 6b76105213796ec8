package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// look returns the link as it is, as far as it is declared: what guards and limits
// a port takes requests of its own.
func look(k Kernel, want linkspec.Link) (linkspec.Link, error) {
	got, err := k.LinkIn(want.Netns, want.Name)
	if err == nil && want.Guard != nil {
		var g linkspec.Guard
		g, err = k.Guard(got)
		got.Guard = &g
	}
	if err == nil && want.Shaping != nil {
		var s linkspec.Shaping
		s, err = k.Shaping(got, *want.Shaping)
		got.Shaping = &s
	}
	return got, err
}

// Devices returns the ifb devices that limit the attachment's guest, whether its
// port is there or not.
func Devices(k Kernel, a attachment.Attachment) ([]linkspec.Link, error) {
	var devices []linkspec.Link
	toGuest, fromGuest := a.Devices()
	for _, name := range []string{toGuest, fromGuest} {
		l, err := k.Link(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", name, err)
		}
		if tag, ok := attachment.TagOf(l.Alias); ok && l.Kind == linkspec.IFB && tag.Names(a) {
			devices = append(devices, l)
		}
	}
	return devices, nil
}

// DeleteDevices deletes what Devices returned. Nothing must go through them.
func DeleteDevices(k Kernel, devices []linkspec.Link) error {
	if err := k.Delete(devices...); err != nil {
		return fmt.Errorf("delete ifb devices: %w", err)
	}
	return nil
}

// limited tells whether the port may have limits that its devices do not tell
// of: our own goes with its limits, somebody else's must be given back without.
func limited(l linkspec.Link) bool {
	own := l.Kind == linkspec.Veth || slices.ContainsFunc(l.AltNames, attachment.IsTapHandle)
	return !own || l.Shaped
}

// claimDevice tells whether the ifb or upper device is one of the network, and whose.
func claimDevice(l linkspec.Link, network string) (s Stale, ours bool) {
	tag, ok := attachment.TagOf(l.Alias)
	if !ok || !tag.OnNetwork(network) {
		return s, false
	}
	s = Stale{Link: l, Attachment: tag.Attachment, Known: tag.Exact(), Device: true}
	s.Attachment.Network = network
	return s, true
}
