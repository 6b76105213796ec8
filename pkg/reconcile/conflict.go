package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// taken returns those of the guest's addresses that a new guard would give it, and that
// the guard of another port of ours allows by now: then what was promised is of an
// earlier ADD, and the delegate gave them to somebody else. The error tells of it.
func (r *Receipt) taken(want, got linkspec.Link, guard *linkspec.Guard) ([]netip.Prefix, error) {
	if guard == nil || guard.Off() || bridgeUnder(want) == "" {
		return nil, nil
	}
	var fresh []netip.Prefix
	for _, a := range want.GuestAddresses {
		p := netip.PrefixFrom(a, a.BitLen())
		if slices.Contains(guard.Addresses, p) && (got.Guard == nil || !slices.Contains(got.Guard.Addresses, p)) {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	ports, err := r.k.Ports(*want.Master)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ports of %s: %w", *want.Master, err)
	}
	var taken []netip.Prefix
	var errs []error
	for _, port := range ports {
		if port.Index == got.Index || !attachment.HasPortHandle(port.AltNames) {
			continue
		}
		theirs, fault := r.allowed(want, port, fresh)
		for _, p := range theirs {
			fault = errors.Join(fault, cnierr.New(cnierr.Config,
				"prevResult must be what the guest's last ADD answered; if it is, one of the two has the address by mistake: DEL that guest, and ADD it again",
				"%s: the guest's address %s is that of %s by now", want.Key(), p.Addr(), port.Name))
		}
		taken, errs = append(taken, theirs...), append(errs, fault)
	}
	return taken, errors.Join(errs...)
}

// allowed returns those of the addresses that the port's guard allows, each for itself,
// where the two ports have a VLAN in common.
func (r *Receipt) allowed(want, port linkspec.Link, addresses []netip.Prefix) ([]netip.Prefix, error) {
	g, err := r.k.Guard(port)
	if err != nil {
		return nil, fmt.Errorf("look up guard of %s: %w", port.Name, err)
	}
	var both []netip.Prefix
	for _, p := range addresses {
		if slices.Contains(g.Addresses, p) {
			both = append(both, p)
		}
	}
	if len(both) == 0 || len(want.VLANs) == 0 {
		return both, nil
	}
	port, err = r.k.Link(port.Name) // with its VLANs
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up port: %w", err)
	}
	for _, v := range port.VLANs {
		if _, in := linkspec.FindVLAN(want.VLANs, v.ID); in {
			return both, nil
		}
	}
	if len(port.VLANs) == 0 {
		return both, nil
	}
	return nil, nil
}

// guardLess is the guard to attach where the declared one would allow what is somebody
// else's: none in the place of one that holds the guest to itself already, else the
// declared one without that.
func guardLess(declared, now *linkspec.Guard, taken []netip.Prefix) *linkspec.Guard {
	if now != nil && !now.Off() && now.Bypass == "" {
		return nil
	}
	less := *declared
	less.Addresses = slices.DeleteFunc(slices.Clone(less.Addresses), func(p netip.Prefix) bool { return slices.Contains(taken, p) })
	return &less
}
