package fake

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const defaultVLAN = 1

func defaultVLANs() []linkspec.VLAN {
	return []linkspec.VLAN{{ID: defaultVLAN, PVID: true, Untagged: true}}
}

// WithoutVLANs makes it a kernel whose bridges cannot tell VLANs apart.
func (k *Kernel) WithoutVLANs() *Kernel {
	k.noVLANs = true
	return k
}

// CanFilter is an error after WithoutVLANs.
func (k *Kernel) CanFilter() error {
	if k.noVLANs {
		return cnierr.New(cnierr.Kernel, "take another kernel", "no VLANs: %w", errors.ErrUnsupported)
	}
	return nil
}

// beneath returns the device below a VLAN or upper device, and refuses what a kernel
// without VLANs does.
func (k *Kernel) beneath(l linkspec.Link) (*link, error) {
	if l.Kind == linkspec.Bridge && l.VLANFiltering != nil {
		return nil, k.CanFilter()
	}
	switch l.Kind {
	case linkspec.VLANDevice:
	case linkspec.Upper:
		return k.under(l)
	default:
		return nil, nil
	}
	if l.Parent == nil || l.VLANID == nil {
		return nil, errors.New("no device below, or no VLAN")
	}
	below, err := k.find(*l.Parent)
	if err != nil {
		return nil, err
	}
	for _, n := range k.links {
		if n.below == below && n.VLANID != nil && *n.VLANID == *l.VLANID {
			return nil, fmt.Errorf("%s has VLAN %d of %s: %w", n.Name, *l.VLANID, below.Name, fs.ErrExist)
		}
	}
	return below, nil
}

// observeVLANs fills in what the kernel tells where bridges filter.
func (n *link) observeVLANs(l *linkspec.Link) {
	bridge := n.master
	if n.Kind == linkspec.Bridge {
		bridge = n
		if n.DefaultPVID != 0 {
			l.VLANFiltering = new(n.filters)
		}
	}
	if bridge != nil && bridge.filters {
		l.VLANs = slices.Clone(n.vlans)
	}
	if n.Kind != linkspec.VLANDevice {
		return
	}
	l.Parent, l.VLANID, l.Carried = new(n.below.Name), dup(l.VLANID), new(false)
	if v, in := linkspec.FindVLAN(n.below.vlans, *l.VLANID); in && n.below.filters {
		l.Carried = new(!v.Untagged)
	}
}

func (k *Kernel) setFiltering(n *link, change linkspec.Link) error {
	if change.VLANFiltering == nil {
		return nil
	}
	if n.Kind != linkspec.Bridge {
		return errors.New("set VLAN filtering: not a bridge")
	}
	if err := k.CanFilter(); err != nil {
		return err
	}
	n.filters = *change.VLANFiltering
	return nil
}

func (k *Kernel) setVLANs(n *link, change linkspec.Link) error {
	if change.VLANs == nil {
		return nil
	}
	if n.master == nil {
		return errors.New("set VLANs: not a port of a bridge")
	}
	n.vlans = slices.SortedFunc(slices.Values(change.VLANs), byID)
	return nil
}

func (k *Kernel) setInVLANs(n *link, change linkspec.Link) error {
	if len(change.InVLANs) > 0 && n.master == nil {
		return errors.New("put it into VLANs: not a port of a bridge")
	}
	for _, id := range change.InVLANs {
		if _, in := linkspec.FindVLAN(n.vlans, id); !in {
			n.vlans = slices.SortedFunc(slices.Values(append(n.vlans, linkspec.VLAN{ID: id})), byID)
		}
	}
	return nil
}

func byID(a, b linkspec.VLAN) int { return cmp.Compare(a.ID, b.ID) }

func (k *Kernel) setCarried(n *link, change linkspec.Link) error {
	if change.Carried == nil {
		return nil
	}
	if n.below == nil {
		return errors.New("set VLAN of the bridge below: not a VLAN device")
	}
	v, in := linkspec.FindVLAN(n.below.vlans, *n.VLANID)
	switch {
	case in && v.Untagged && *change.Carried:
		return fmt.Errorf("bridge %s itself is in VLAN %d without tags", n.below.Name, v.ID)
	case in && !v.Untagged && !*change.Carried:
		n.below.vlans = slices.DeleteFunc(n.below.vlans, func(have linkspec.VLAN) bool { return have == v })
	case !in && *change.Carried:
		n.below.vlans = slices.SortedFunc(slices.Values(append(n.below.vlans, linkspec.VLAN{ID: *n.VLANID})), byID)
	}
	return nil
}
