package kernel

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Shaper is how the kernel is told to limit bandwidth: pkg/shape, which is not
// linked into a plugin that has no use for it. Links are interface indexes, 0 for
// a device that is not there.
type Shaper interface {
	// Limit brings the limits about on a port, in place of those that it had.
	Limit(port, toGuest, fromGuest int, l linkspec.Limits) error
	// Limits are those that are in force.
	Limits(port, toGuest, fromGuest int) (linkspec.Limits, error)
}

// noShaper is the Shaper of a Kernel that was given none.
type noShaper struct{}

func (noShaper) Limit(int, int, int, linkspec.Limits) error { return errors.ErrUnsupported }
func (noShaper) Limits(int, int, int) (linkspec.Limits, error) {
	return linkspec.Limits{}, errors.ErrUnsupported
}

// WithShaper makes New return a kernel that can limit bandwidth. nil is none.
func WithShaper(s Shaper) Option {
	return func(k *Kernel) {
		if s != nil {
			k.shaper = s
		}
	}
}

// Shaping returns what limits the port by way of of's devices.
func (k *Kernel) Shaping(port linkspec.Link, of linkspec.Shaping) (linkspec.Shaping, error) {
	to, from, err := k.devices(of)
	if err != nil {
		return linkspec.Shaping{}, err
	}
	got := linkspec.Shaping{ToGuestVia: of.ToGuestVia, FromGuestVia: of.FromGuestVia}
	got.Limits, err = k.shaper.Limits(port.Index, to, from)
	return got, wrap("read limits of "+port.Name, err)
}

// devices returns the indexes of the devices, 0 for one that is not there.
func (k *Kernel) devices(s linkspec.Shaping) (toGuest, fromGuest int, err error) {
	var indexes [2]int
	for i, name := range []string{s.ToGuestVia, s.FromGuestVia} {
		if name == "" {
			continue
		}
		indexes[i], err = k.indexOf(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, 0, fmt.Errorf("look up ifb device: %w", err)
		}
	}
	return indexes[0], indexes[1], nil
}

func (k *Kernel) setShaping(l, change linkspec.Link) error {
	if change.Shaping == nil {
		return nil
	}
	var to, from int
	var err error
	none := change.Shaping.Equal(linkspec.Limits{})
	if !none { // which needs no device
		if to, from, err = k.devices(*change.Shaping); err != nil {
			return err
		}
	}
	if needTo, needFrom := change.Shaping.Devices(); needTo && to == 0 || needFrom && from == 0 {
		return fmt.Errorf("limit bandwidth: ifb device: %w", fs.ErrNotExist)
	}
	err = k.shaper.Limit(l.Index, to, from, change.Shaping.Limits)
	if none && errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a kernel without packet scheduling: nothing can be there
	}
	if errors.Is(err, unix.ENODEV) { // in words that the engine knows
		err = &refusal{errno: unix.ENODEV, reason: err.Error()}
	}
	return wrap("limit bandwidth", err)
}
