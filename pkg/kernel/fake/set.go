package fake

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func full(bridge string) error {
	return cnierr.New(cnierr.TryAgain, "delete VMs of this bridge, or add another bridge",
		"bridge %s is full, it has %d ports", bridge, maxPorts)
}

// Set gives the declared fields of change to an observed link. What comes
// before a field that cannot be set stays set, as in the kernel.
func (k *Kernel) Set(l, change linkspec.Link) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.links[l.Index]
	if n == nil {
		return fmt.Errorf("link %s: %w", l.Name, fs.ErrNotExist)
	}
	if change.Owner != nil || change.Group != nil || change.MultiQueue != nil {
		return fmt.Errorf("link %s: owner, group and multiQueue of a tap can only be set when it is made", l.Name)
	}
	if change.Parent != nil || change.VLANID != nil {
		return fmt.Errorf("link %s: VLAN and device below can only be set when it is made", l.Name)
	}
	if change.Deaf != nil {
		return fmt.Errorf("link %s: what it hears can only be set when it is made", l.Name)
	}
	if err := k.set(n, change); err != nil {
		return fmt.Errorf("link %s: %w", l.Name, err)
	}
	return nil
}

func (k *Kernel) set(n *link, change linkspec.Link) error {
	if change.Up != nil && !*change.Up {
		n.Up, n.Disabled = new(false), new(false)
	}
	steps := []func(*link, linkspec.Link) error{
		k.setAltNames, k.setAttributes, k.setMaster, k.setFiltering, k.setPortFlags, k.setVLANs, k.setInVLANs, k.setCarried, k.setStations,
		k.setShaping, k.setAddresses, k.setSplice, k.setShortcut,
	}
	for _, step := range steps {
		if err := step(n, change); err != nil {
			return err
		}
	}
	if change.Up != nil && *change.Up {
		n.Up = new(true)
	}
	return nil
}

func (k *Kernel) setAltNames(n *link, change linkspec.Link) error {
	n.AltNames = slices.DeleteFunc(n.AltNames, func(name string) bool { return slices.Contains(change.NoAltNames, name) })
	for _, name := range change.AltNames {
		holder, err := k.findIn(n.Netns, name)
		switch {
		case err != nil:
			n.AltNames = append(n.AltNames, name)
		case holder != n || holder.Name == name:
			return fmt.Errorf("alternative name %s: %w", name, fs.ErrExist)
		}
	}
	return nil
}

func (k *Kernel) setAttributes(n *link, change linkspec.Link) error {
	if change.MAC != nil {
		if len(change.MAC) != 6 || change.MAC[0]&1 != 0 {
			return fmt.Errorf("%s is not the address of a station", change.MAC)
		}
		n.MAC, n.isMACSet = slices.Clone(change.MAC), true
	}
	if change.MTU != nil {
		if *change.MTU < minMTU || *change.MTU > 65536 {
			return fmt.Errorf("mtu %d is out of range", *change.MTU)
		}
		if *n.MTU < minIPv6MTU { // the kernel gives the device IPv6 anew
			n.IPv6, n.AcceptRA = new(true), new(true)
		}
		n.MTU, n.isMTUSet = new(*change.MTU), true
	}
	if change.Guard != nil {
		n.Guard = new(change.Guard.Canonical())
		if change.Guard.Off() {
			n.Guard = nil
		}
	}
	n.Alias = orDefault(change.Alias, *n.Alias)
	n.TxQueueLen = orDefault(change.TxQueueLen, *n.TxQueueLen)
	n.Promisc = orDefault(change.Promisc, *n.Promisc)
	n.IPv6 = orDefault(change.IPv6, *n.IPv6)
	n.AcceptRA = orDefault(change.AcceptRA, *n.AcceptRA)
	n.ARPIgnore = orDefault(change.ARPIgnore, *n.ARPIgnore)
	n.Forwarding = orDefault(change.Forwarding, *n.Forwarding)
	k.follow(n.master)
	return nil
}

func (k *Kernel) setMaster(n *link, change linkspec.Link) error {
	if change.Master == nil {
		return nil
	}
	if *change.Master == "" {
		k.leave(n)
		return nil
	}
	bridge, err := k.findBridge(*change.Master)
	if err != nil || n.master == bridge {
		return err
	}
	k.leave(n)
	return k.join(n, bridge)
}

func (k *Kernel) setPortFlags(n *link, change linkspec.Link) error {
	held := n.PortFlags()
	for i, flag := range change.PortFlags() {
		switch {
		case *flag == nil:
		case n.master == nil:
			return errors.New("set port flags: not a port of a bridge")
		default:
			*held[i] = new(**flag)
		}
	}
	switch {
	case change.Disabled == nil:
	case n.master == nil:
		return errors.New("set port flags: not a port of a bridge")
	default:
		n.Disabled = new(*change.Disabled)
	}
	return nil
}

func (k *Kernel) setAddresses(n *link, change linkspec.Link) error {
	n.Addresses = slices.DeleteFunc(n.Addresses, func(a linkspec.Address) bool {
		return slices.Contains(change.NoAddresses, a.Prefix)
	})
	for _, a := range change.Addresses {
		if a.Prefix.Addr().Is6() && !*n.IPv6 {
			return fmt.Errorf("add address %s: IPv6 is off on the device", a.Prefix)
		}
		if i := slices.IndexFunc(n.Addresses, func(h linkspec.Address) bool { return sameAddress(h.Prefix, a.Prefix) }); i >= 0 {
			if n.Addresses[i].Prefix != a.Prefix {
				return fmt.Errorf("add address %s: it is there as %s: %w", a.Prefix, n.Addresses[i].Prefix, fs.ErrExist)
			}
			if !n.Addresses[i].Failed {
				continue
			}
			n.Addresses = slices.Delete(n.Addresses, i, i+1)
		}
		n.Addresses = append(n.Addresses, linkspec.Address{Prefix: a.Prefix, NoDAD: a.NoDAD && a.Prefix.Addr().Is6()})
	}
	return nil
}

// sameAddress tells whether the kernel takes two addresses of a device for one:
// those of IPv6 whatever the length of the prefix.
func sameAddress(a, b netip.Prefix) bool {
	return a == b || a.Addr().Is6() && a.Addr() == b.Addr()
}
