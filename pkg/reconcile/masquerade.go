package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// masquerade comes before the links: a connection that a guest opens before the
// rule is there would never be masqueraded.
func (r *Receipt) masquerade(s linkspec.State) error {
	m := s.Masquerade
	if m == nil {
		return nil
	}
	got, err := r.k.Masquerades(*m)
	if err != nil {
		return err
	}
	if len(linkspec.DiffMasquerade(*m, got)) == 0 {
		return nil
	}
	// Rules that are missing may be the first, or somebody flushed all of them.
	if err := masqueradeOthers(r.k, *m, bridgeOf(s)); err != nil {
		return err
	}
	// By the time of an undo others may rely on it, or they do already.
	r.before(func() error { return supported(releaseMasquerade(r.k, *m)) })
	return r.k.Masquerade(*m)
}

// masqueradeOthers brings back what somebody flushed of the network's other guests.
func masqueradeOthers(k Kernel, m linkspec.Masquerade, bridge string) error {
	others, err := otherGuests(k, m, bridge)
	if err != nil || len(others) == 0 {
		return err
	}
	of := linkspec.Masquerade{Backend: m.Backend, Network: m.Network}
	for _, other := range others {
		of.Sources = append(of.Sources, other.Sources...)
	}
	got, err := k.Masquerades(of)
	if err != nil {
		return err
	}
	for _, other := range others {
		if len(linkspec.DiffMasquerade(other, got)) == 0 {
			continue
		}
		if err := k.Masquerade(other); err != nil {
			return fmt.Errorf("masquerade others of network %s again: %w", m.Network, err)
		}
	}
	return nil
}

// otherGuests is what is to be masqueraded for the guests at the bridge's ports, by
// holder. Which addresses and subnets are theirs, only their guards tell.
func otherGuests(k Kernel, m linkspec.Masquerade, bridge string) ([]linkspec.Masquerade, error) {
	ports, err := k.Ports(bridge)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ports of %s: %w", bridge, err)
	}
	var others []linkspec.Masquerade
	for _, port := range ports {
		if !relies(port, linkspec.Masquerade{Network: m.Network}) {
			continue
		}
		other := linkspec.Masquerade{Backend: m.Backend, Network: m.Network}
		if m.ContainerID != "" {
			tag, ok := attachment.TagOf(port.Alias)
			if !ok || !tag.Exact() {
				continue
			}
			other.ContainerID = tag.ContainerID
		}
		g, err := k.Guard(port)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(others, other.SameHolder)
		if i < 0 {
			i, others = len(others), append(others, other)
		}
		for _, s := range sources(g, m.ContainerID != "") {
			if !slices.Contains(others[i].Sources, s) {
				others[i].Sources = append(others[i].Sources, s)
			}
		}
	}
	return others, nil
}

// sources are the subnets that the guest's addresses are in, or these addresses,
// each with the length of its subnet.
func sources(g linkspec.Guard, each bool) []netip.Prefix {
	if !each { // isolation may have put others beside them
		return slices.DeleteFunc(slices.Clone(g.Subnets), func(p netip.Prefix) bool {
			return !slices.ContainsFunc(g.Addresses, func(own netip.Prefix) bool { return own.IsSingleIP() && p.Contains(own.Addr()) })
		})
	}
	var all []netip.Prefix
	for _, own := range g.Addresses {
		i := slices.IndexFunc(g.Subnets, func(p netip.Prefix) bool { return own.IsSingleIP() && p.Contains(own.Addr()) })
		if i >= 0 {
			all = append(all, netip.PrefixFrom(own.Addr(), g.Subnets[i].Bits()))
		}
	}
	return all
}

// bridgeOf is the bridge of a state, "" for none.
func bridgeOf(s linkspec.State) string {
	for _, l := range s.Links {
		if l.Kind == linkspec.Bridge {
			return l.Name
		}
	}
	return ""
}

// diffMasquerade is the part of compare that is about masquerading.
func diffMasquerade(k Kernel, m *linkspec.Masquerade) ([]linkspec.Difference, error) {
	if m == nil {
		return nil, nil
	}
	got, err := k.Masquerades(*m)
	if err != nil {
		return nil, err
	}
	return linkspec.DiffMasquerade(*m, got), nil
}

// ReleaseMasquerade ends m, once no port of the network, or with iptables of
// the container, is on a bridge. The bridge, "" for none, is where to look
// first. Where the host lacks the backend, the error is errors.ErrUnsupported.
func ReleaseMasquerade(ctx context.Context, k Kernel, m linkspec.Masquerade, bridge string) error {
	if m.Backend == linkspec.NFTables {
		if got, err := k.Masquerades(m); err != nil || len(got) == 0 {
			return err
		}
		// Most often there are other ports: look before waiting for the lock.
		if others, err := portsOf(k, bridge, m); err != nil || others {
			return err
		}
	}
	unlock, err := k.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return releaseMasquerade(k, m)
}

func releaseMasquerade(k Kernel, m linkspec.Masquerade) error {
	links, err := k.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	if slices.ContainsFunc(links, func(l linkspec.Link) bool { return relies(l, m) }) {
		return nil
	}
	return k.Unmasquerade(m)
}

// SweepMasquerade ends what iptables masquerades for containers of the network
// that none of the valid attachments is of.
func SweepMasquerade(ctx context.Context, k Kernel, network string, valid []attachment.Attachment) error {
	unlock, err := k.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	got, err := k.Masquerades(linkspec.Masquerade{Backend: linkspec.IPTables, Network: network})
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range got {
		if !slices.ContainsFunc(valid, func(a attachment.Attachment) bool { return holds(a, m) }) {
			errs = append(errs, k.Unmasquerade(m))
		}
	}
	return errors.Join(errs...)
}

// longID is so long that rules may hold only the beginning of it.
const longID = 128

// holds tells whether the rules are, or may be, of the attachment's container.
func holds(a attachment.Attachment, m linkspec.Masquerade) bool {
	return a.ContainerID == m.ContainerID || len(m.ContainerID) > longID && strings.HasPrefix(a.ContainerID, m.ContainerID)
}

// portsOf tells whether a port of the bridge relies on m.
func portsOf(k Kernel, bridge string, m linkspec.Masquerade) (bool, error) {
	if bridge == "" {
		return false, nil
	}
	found, err := k.AnyPort(bridge, func(l linkspec.Link) bool { return relies(l, m) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for ports of %s: %w", bridge, err)
	}
	return found, nil
}

// relies tells whether a link is a port, on whatever bridge, that relies on m. A
// tap that is not on its bridge yet does not: its ADD will look again.
func relies(l linkspec.Link, m linkspec.Masquerade) bool {
	held := slices.ContainsFunc(l.AltNames, func(name string) bool {
		return strings.HasPrefix(name, attachment.PortHandlePrefix(m.Network))
	})
	if !held || l.Master == nil || *l.Master == "" {
		return false
	}
	if m.ContainerID == "" {
		return true
	}
	tag, ok := attachment.TagOf(l.Alias)
	return ok && tag.Names(attachment.Attachment{Network: m.Network, ContainerID: m.ContainerID, IfName: tag.IfName})
}

// supported forgives a host that lacks the backend: nothing can be there.
func supported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
