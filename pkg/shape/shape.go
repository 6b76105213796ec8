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
// them on their port. Why it is done like this, docs/bandwidth-notes.md says.
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

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Limits are those of one port. The zero value limits nothing.
type Limits struct {
	ToGuest, FromGuest Limit

	// At most one of the lists may have members: then only frames whose other
	// end (source to the guest, destination from it) is in ShapedSubnets are
	// limited, or only those whose other end is not in UnshapedSubnets. ARP,
	// everything else that is not IP, and frames with a VLAN tag are in no subnet.
	ShapedSubnets, UnshapedSubnets []netip.Prefix
}

// Limit is that of one direction. All of it counts as the kernel does: a frame
// from its Ethernet header on, and a GSO frame as the frames that it stands for.
type Limit struct {
	// Rate is in bits a second; 0 is no limit. Full frames at an MTU of 1500
	// carry this rate in IP packets: their Ethernet headers come on top.
	Rate uint64

	// Burst is how many bits may pass at once after a pause; 0 is 20 ms at that
	// rate, ten frames at least.
	Burst uint64

	// Queue is how many bits may wait; 0 is 25 ms at that rate, and room for one
	// GSO frame or, where that is less, for the burst.
	Queue uint64
}

// Port is a bridge port, and the ifb devices that its limits need, by their
// interface indexes. A device that Devices does not ask for may be 0.
type Port struct {
	Index              int
	ToGuest, FromGuest int
}

// Devices tells for which directions the limits need an ifb device.
func (l Limits) Devices() (toGuest, fromGuest bool) {
	return l.ToGuest.Rate > 0 && l.selective(), l.FromGuest.Rate > 0
}

// selective tells whether some frames are not limited.
func (l Limits) selective() bool { return len(l.ShapedSubnets)+len(l.UnshapedSubnets) > 0 }

// Canonical returns the limits as Observe reports them once they are applied:
// whole bytes, a burst that the kernel's clock can measure (never less than was
// asked for, except that it keeps no more than 4.29 seconds), a queue, and
// subnets that are masked, sorted and there once.
func (l Limits) Canonical() Limits {
	c := Limits{ToGuest: l.ToGuest.canonical(), FromGuest: l.FromGuest.canonical()}
	if c.ToGuest.Rate > 0 || c.FromGuest.Rate > 0 {
		c.ShapedSubnets = canonicalSubnets(l.ShapedSubnets)
		c.UnshapedSubnets = canonicalSubnets(l.UnshapedSubnets)
	}
	return c
}

func canonicalSubnets(subnets []netip.Prefix) []netip.Prefix {
	var c []netip.Prefix
	for _, s := range subnets {
		c = append(c, s.Masked())
	}
	slices.SortFunc(c, netip.Prefix.Compare)
	return slices.Compact(c)
}

// Equal tells whether two limits are the same, member by member.
func (l Limits) Equal(other Limits) bool {
	return l.ToGuest == other.ToGuest && l.FromGuest == other.FromGuest &&
		slices.Equal(l.ShapedSubnets, other.ShapedSubnets) && slices.Equal(l.UnshapedSubnets, other.UnshapedSubnets)
}

// Check returns a cnierr.Config error if the limits make no sense, or would let
// no full frame pass, on a port of that MTU.
func (l Limits) Check(mtu int) error {
	if len(l.ShapedSubnets) > 0 && len(l.UnshapedSubnets) > 0 {
		return cnierr.New(cnierr.Config, "keep the list of the subnets to limit or that of those to leave alone, and remove the other",
			"shapedSubnets and unshapedSubnets exclude each other")
	}
	for _, s := range slices.Concat(l.ShapedSubnets, l.UnshapedSubnets) {
		if !s.IsValid() || s.Addr().Is4In6() {
			return cnierr.New(cnierr.Config, "write subnets like 10.0.0.0/8 or fd00::/8", "%v is no subnet to limit the bandwidth of", s)
		}
	}
	// The names of the keys are seen from the guest: ingress is what it receives.
	if err := l.ToGuest.check("ingress", mtu); err != nil {
		return err
	}
	return l.FromGuest.check("egress", mtu)
}

// Apply brings the limits about, whatever limits of this package the port had;
// limits that are in place stay as they are. The devices that they need must be
// there and up. After an error the port may be limited in part: Remove clears it.
func Apply(p Port, l Limits) error {
	l = l.Canonical()
	if err := l.applyToGuest(p); err != nil {
		return err
	}
	if l.FromGuest.Rate == 0 {
		return setFilters(p.Index, ingress, nil)
	}
	if err := setBucket(p.FromGuest, l.FromGuest.bucket()); err != nil {
		return err
	}
	return setFilters(p.Index, ingress, l.filters(p.FromGuest))
}

func (l Limits) applyToGuest(p Port) error {
	switch {
	case l.ToGuest.Rate == 0:
		if err := removeBucket(p.Index); err != nil {
			return err
		}
		return setFilters(p.Index, egress, nil)
	case l.selective():
		if err := removeBucket(p.Index); err != nil {
			return err
		}
		if err := setBucket(p.ToGuest, l.ToGuest.bucket()); err != nil {
			return err
		}
		return setFilters(p.Index, egress, l.filters(p.ToGuest))
	default:
		if err := setBucket(p.Index, l.ToGuest.bucket()); err != nil {
			return err
		}
		return setFilters(p.Index, egress, nil)
	}
}

// Remove takes all limits of this package off the port. It does not delete the
// ifb devices. A port without limits is no error.
func Remove(p Port) error { return Apply(Port{Index: p.Index}, Limits{}) }

// Observe reads the limits of the port from the kernel. A direction of which
// any part is missing or of another shape than Apply gives it has no limit; so
// has the direction from the guest when its subnets are not those of the other.
func Observe(p Port) (Limits, error) {
	to, err := observe(p.Index, egress, p.ToGuest)
	if err != nil {
		return Limits{}, err
	}
	from, err := observe(p.Index, ingress, p.FromGuest)
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

func observe(port int, h hook, device int) (direction, error) {
	found, err := listFilters(port, h)
	if err != nil {
		return direction{}, err
	}
	var d direction
	if len(found) == 0 {
		if h == egress {
			d.limit, err = observeBucket(port)
		}
		return d, err
	}
	l := guess(found)
	if device == 0 || !sameFilters(found, l.filters(device)) {
		return d, nil
	}
	d.shaped, d.unshaped = l.ShapedSubnets, l.UnshapedSubnets
	d.limit, err = observeBucket(device)
	if d.limit.Rate == 0 {
		d = direction{}
	}
	return d, err
}
