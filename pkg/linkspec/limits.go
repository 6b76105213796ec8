package linkspec

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Limits are those of one port. The zero value limits nothing.
type Limits struct {
	ToGuest, FromGuest Limit

	// At most one of the lists may have members: then only frames whose other
	// end (source to the guest, destination from it) is in ShapedSubnets are
	// limited, or only those whose other end is not in UnshapedSubnets, with an
	// 802.1Q tag or without. ARP, everything else that is not IP, and frames with
	// another tag or more of them are in no subnet.
	ShapedSubnets, UnshapedSubnets []netip.Prefix
}

// Limit is that of one direction. Burst and Queue count as the kernel does: a frame
// from its Ethernet header on, and a GSO frame as the frames that it stands for.
type Limit struct {
	// Rate is in bits a second; 0 is no limit. It is what full segments of TCP
	// over IPv4 carry at an MTU of 1500: all headers come on top, 3.7 % of them.
	Rate uint64

	// Burst is how many bits may pass at once after a pause; 0 is 20 ms at that
	// rate, and ten frames at least, which are those of an MTU of 1500 unless the limit
	// was Suited to another.
	Burst uint64

	// Queue is how many bits may wait; 0 is 25 ms at that rate, and room for one
	// GSO frame or, where that is less, for the burst.
	Queue uint64
}

// Devices tells for which directions the limits need an ifb device.
func (l Limits) Devices() (toGuest, fromGuest bool) {
	return l.ToGuest.Rate > 0 && l.Selective(), l.FromGuest.Rate > 0
}

// Selective tells whether some frames are not limited.
func (l Limits) Selective() bool { return len(l.ShapedSubnets)+len(l.UnshapedSubnets) > 0 }

// Suited gives limits without a burst one that suits a port of that MTU in bytes.
func (l Limits) Suited(mtu int) Limits {
	l.ToGuest, l.FromGuest = l.ToGuest.suited(mtu), l.FromGuest.suited(mtu)
	return l
}

// Canonical returns the limits as they are read back once they are applied: whole
// bytes, a burst that the kernel's clock can measure (never less than was asked
// for, except that it keeps no more than 4.29 seconds), a queue, and subnets that
// are masked, sorted and there once.
func (l Limits) Canonical() Limits {
	c := Limits{ToGuest: l.ToGuest.canonical(), FromGuest: l.FromGuest.canonical()}
	if c.ToGuest.Rate > 0 || c.FromGuest.Rate > 0 {
		c.ShapedSubnets = CanonicalSubnets(l.ShapedSubnets)
		c.UnshapedSubnets = CanonicalSubnets(l.UnshapedSubnets)
	}
	return c
}

// CanonicalSubnets returns the subnets masked, sorted and each of them once.
func CanonicalSubnets(subnets []netip.Prefix) []netip.Prefix {
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

// Shaping is how a port is limited: Limits in their canonical form, and the ifb
// devices that they need, by name; "" where none is needed.
type Shaping struct {
	Limits
	ToGuestVia, FromGuestVia string
}

// texts are one for each direction, and one for each subnet.
func (s *Shaping) texts() []string {
	if s == nil {
		return nil
	}
	texts := []string{"to guest " + s.ToGuest.text(s.ToGuestVia), "from guest " + s.FromGuest.text(s.FromGuestVia)}
	for _, p := range s.ShapedSubnets {
		texts = append(texts, "only "+p.String())
	}
	for _, p := range s.UnshapedSubnets {
		texts = append(texts, "except "+p.String())
	}
	return texts
}

func (l Limit) text(via string) string {
	if l.Rate == 0 {
		return "none"
	}
	text := "rate " + strconv.FormatUint(l.Rate, 10) + " burst " + strconv.FormatUint(l.Burst, 10) + " queue " + strconv.FormatUint(l.Queue, 10)
	if via != "" {
		text += " via " + via
	}
	return text
}
