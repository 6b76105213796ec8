// Package shape limits the bandwidth of a bridge port with a guest behind it:
// of the frames to the guest and of those from it, each with a token bucket
// that delays what is over the rate and drops what finds its queue full.
//
//	to the guest    tbf at the root of the port
//	from the guest  clsact ingress of the port, u32, mirred -> tbf on an ifb device
//
// When only some subnets are limited, or all but some, then frames to the guest
// go through an ifb device of their own as well, from the clsact egress. Frames
// come back from an ifb device to where they were taken away, so the bridge sees
// them on their port. Why it is done like this, docs/bandwidth.md says.
//
// Everything that Apply makes can be read back with Observe, and nothing else is
// touched: the buckets have a handle, the filters priorities of their own, which
// come after those of everybody else who filters there. A filter that goes
// before must therefore let frames go on with TC_ACT_UNSPEC: one that says
// TC_ACT_OK ends the search, and the frame is not limited.
//
// All functions act on the network namespace of the calling thread.
package shape

import (
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Limits are what a port is limited to.
type Limits = linkspec.Limits

// Limit is that of one direction.
type Limit = linkspec.Limit

// Kernel hands the package to pkg/kernel, where a plugin needs it.
type Kernel struct{}

// Limit is Apply.
func (Kernel) Limit(port, toGuest, fromGuest int, l Limits) error {
	return Apply(Port{Index: port, ToGuest: toGuest, FromGuest: fromGuest}, l)
}

// Limits is Observe.
func (Kernel) Limits(port, toGuest, fromGuest int) (Limits, error) {
	return Observe(Port{Index: port, ToGuest: toGuest, FromGuest: fromGuest})
}

// Port is a bridge port, and the ifb devices that its limits need, by their
// interface indexes. A device that Devices does not ask for may be 0.
type Port struct {
	Index              int
	ToGuest, FromGuest int
}

// Apply brings the limits about, whatever limits of this package the port had;
// limits that are in place stay as they are. The devices that they need must be
// there and up. After an error the port may be limited in part: Remove clears it.
func Apply(p Port, l Limits) error {
	l = l.Canonical()
	if err := applyToGuest(p, l); err != nil {
		return err
	}
	if l.FromGuest.Rate == 0 {
		return setFilters(p.Index, tc.Ingress, nil)
	}
	if err := setBucket(p.FromGuest, l.FromGuest.Bucket()); err != nil {
		return err
	}
	return setFilters(p.Index, tc.Ingress, filters(l, p.FromGuest))
}

func applyToGuest(p Port, l Limits) error {
	switch {
	case l.ToGuest.Rate == 0:
		if err := removeBucket(p.Index); err != nil {
			return err
		}
		return setFilters(p.Index, tc.Egress, nil)
	case l.Selective():
		if err := removeBucket(p.Index); err != nil {
			return err
		}
		if err := setBucket(p.ToGuest, l.ToGuest.Bucket()); err != nil {
			return err
		}
		return setFilters(p.Index, tc.Egress, filters(l, p.ToGuest))
	default:
		if err := setBucket(p.Index, l.ToGuest.Bucket()); err != nil {
			return err
		}
		return setFilters(p.Index, tc.Egress, nil)
	}
}

// Remove takes all limits of this package off the port. It does not delete the
// ifb devices. A port without limits is no error.
func Remove(p Port) error { return Apply(Port{Index: p.Index}, Limits{}) }

// Observe reads the limits of the port from the kernel. A direction of which
// any part is missing or of another shape than Apply gives it has no limit; so
// has the direction from the guest when its subnets are not those of the other.
func Observe(p Port) (Limits, error) {
	to, err := observe(p.Index, tc.Egress, p.ToGuest)
	if err != nil {
		return Limits{}, err
	}
	from, err := observe(p.Index, tc.Ingress, p.FromGuest)
	if err != nil {
		return Limits{}, err
	}
	l := Limits{ToGuest: to.limit, FromGuest: from.limit, ShapedSubnets: to.shaped, UnshapedSubnets: to.unshaped}
	switch {
	case to.limit.Rate == 0:
		l.ShapedSubnets, l.UnshapedSubnets = from.shaped, from.unshaped
	case !slices.Equal(to.shaped, from.shaped) || !slices.Equal(to.unshaped, from.unshaped):
		l.FromGuest = Limit{}
	}
	return l, nil
}

// direction is what was observed of one.
type direction struct {
	limit            Limit
	shaped, unshaped []netip.Prefix
}

func observe(port int, h tc.Hook, device int) (direction, error) {
	found, err := listFilters(port, h)
	if err != nil {
		return direction{}, err
	}
	var d direction
	if len(found) == 0 {
		if h == tc.Egress {
			d.limit, err = observeBucket(port)
		}
		return d, err
	}
	l := guess(found)
	if device == 0 || !sameFilters(found, filters(l, device)) {
		return d, nil
	}
	d.shaped, d.unshaped = l.ShapedSubnets, l.UnshapedSubnets
	d.limit, err = observeBucket(device)
	if d.limit.Rate == 0 {
		d = direction{}
	}
	return d, err
}
