package fake

import (
	"fmt"
	"io/fs"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Shaping returns what limits the port by way of of's devices.
func (k *Kernel) Shaping(port linkspec.Link, of linkspec.Shaping) (linkspec.Shaping, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	got := linkspec.Shaping{ToGuestVia: of.ToGuestVia, FromGuestVia: of.FromGuestVia}
	n := k.links[port.Index]
	if n == nil {
		return got, fmt.Errorf("link %s: %w", port.Name, fs.ErrNotExist)
	}
	if n.Shaping == nil {
		return got, nil
	}
	got.Limits = n.Shaping.Limits
	to, from := got.Devices()
	if to && !k.limits(n.Shaping.ToGuestVia, of.ToGuestVia) {
		got.ToGuest = linkspec.Limit{}
	}
	if from && !k.limits(n.Shaping.FromGuestVia, of.FromGuestVia) {
		got.FromGuest = linkspec.Limit{}
	}
	got.Limits = got.Canonical()
	return got, nil
}

// limits tells whether frames go through the device that is asked about.
func (k *Kernel) limits(via, of string) bool {
	_, err := k.find(of)
	return via == of && err == nil
}

func (k *Kernel) setShaping(n *link, change linkspec.Link) error {
	if change.Shaping == nil {
		return nil
	}
	s := *change.Shaping
	s.Limits = s.Canonical()
	to, from := s.Devices()
	for via, needed := range map[string]bool{s.ToGuestVia: to, s.FromGuestVia: from} {
		if _, err := k.find(via); needed && err != nil {
			return fmt.Errorf("limit bandwidth: %w", err)
		}
	}
	n.Shaping, n.Shaped = &s, false
	switch {
	case s.Equal(linkspec.Limits{}):
		n.Shaping = nil
	case s.ToGuest.Rate > 0 && !to:
		n.Shaped = true
	}
	return nil
}
