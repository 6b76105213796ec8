package reconcile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Repair brings an attachment's declared state about again while whoever uses it goes
// on: it sets what differs. It makes no links and none of somebody else's change, such
// as one that has the name by now; what it cannot set is for Diff to find afterwards.
// What cannot be set keeps nothing else from being set, other than a port from its
// bridge, or from being up there, as long as it is not guarded and flagged as declared.
// A port that a DEL has, or may have, taken off its bridge is left so, with all that
// serves it.
// It undoes nothing: each step is one towards what was declared. The caller holds the
// lock if the state is Shared.
func Repair(k Kernel, a attachment.Attachment, s linkspec.State) error {
	r := &Receipt{k: k}
	left, err := portLeft(k, a, s)
	errs := []error{err}
	for _, want := range s.Links {
		if !left || want.Role == linkspec.Shared {
			errs = append(errs, r.repair(a, want))
		}
	}
	for _, want := range s.Links {
		errs = append(errs, r.steady(want))
	}
	for _, c := range s.Sysctls {
		errs = append(errs, r.sysctl(c))
	}
	if !left { // else there would be nothing that the rules go with
		errs = append(errs, r.masquerade(s))
	}
	return errors.Join(errs...)
}

func (r *Receipt) repair(a attachment.Attachment, want linkspec.Link) error {
	if want.Role == linkspec.Joined || want.Role == linkspec.Lent {
		return nil
	}
	got, err := look(r.k, want)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", want.Key(), err)
	}
	if err := r.bringBack(got); err != nil {
		return err
	}
	change, differs := linkspec.Change(unguarded(want, got), asFound(want, got))
	if !differs || want.Kind != "" && got.Kind != want.Kind {
		return nil
	}
	if err := leave(r.k, a, want, got); err != nil {
		return err
	}
	// What can only be given when a link is made.
	change.Owner, change.Group, change.MultiQueue, change.Persist = nil, nil, nil, nil
	change.Parent, change.VLANID, change.Deaf = nil, nil, nil
	var unbound error
	change.Stations, unbound = r.fetchAll(want, change.Stations)
	taken, conflict := r.taken(want, got, change.Guard)
	if conflict != nil {
		change.Guard = guardLess(change.Guard, got.Guard, taken)
	}
	if joins(want, got) {
		return errors.Join(conflict, unbound, r.join(got, change))
	}
	return errors.Join(conflict, unbound, r.amend(got, change))
}

// amend sets what it can of a change: all at once, or else each field for itself. A
// port that is down stays so if any of them fails.
func (r *Receipt) amend(l, change linkspec.Link) error {
	err := r.k.Set(l, change)
	if err == nil {
		return nil
	}
	if _, there := r.still(l); !there {
		return fmt.Errorf("repair %s: %w", l.Key(), err)
	}
	var errs []error
	for _, one := range linkspec.Split(change) {
		if one.Up != nil && errs != nil && bridgeUnder(l) != "" {
			break // it comes last
		}
		if err := r.k.Set(l, one); err != nil {
			errs = append(errs, fmt.Errorf("repair %s: %w", l.Key(), err))
		} else if one.MAC != nil {
			l.MAC = one.MAC // which the guard is told
		}
	}
	return errors.Join(errs...)
}

// still is the observed link as it is by now, and whether it is there.
func (r *Receipt) still(l linkspec.Link) (linkspec.Link, bool) {
	now, err := r.k.LinkIn(l.Netns, l.Name)
	return now, err == nil && now.Index == l.Index
}

// join puts a port on a bridge. One that is up is down meanwhile: it would forward
// frames from the moment at which it joins, with the flags of anybody's port. It stays
// down if it joins and anything fails then. One that does not come to join is as it
// was, but for what has nothing to do with a bridge.
func (r *Receipt) join(port, change linkspec.Link) error {
	wasUp, toBeUp := *port.Up, *port.Up || change.Up != nil && *change.Up
	if change.Up = nil; wasUp {
		change.Up = new(false)
	}
	err := r.k.Set(port, change)
	if err == nil {
		return r.up(port, toBeUp)
	}
	err = fmt.Errorf("repair %s: %w", port.Key(), err)
	change.Up = nil
	switch now, there := r.still(port); {
	case !there:
		return err
	case *now.Master != *change.Master:
		return errors.Join(err, r.amend(port, besideBridge(change)), r.up(port, wasUp))
	}
	if err := r.amend(port, change); err != nil {
		return err
	}
	return r.up(port, toBeUp)
}

func (r *Receipt) up(l linkspec.Link, yes bool) error {
	if !yes {
		return nil
	}
	if err := r.k.Set(l, linkspec.Link{Up: new(true)}); err != nil {
		return fmt.Errorf("repair %s: %w", l.Key(), err)
	}
	return nil
}

// besideBridge is the part of a change that takes no bridge, and opens none.
func besideBridge(change linkspec.Link) linkspec.Link {
	change = change.OffBridge()
	change.Master, change.Disabled, change.Guard, change.Up = nil, nil, nil, nil
	return change
}

// asFound is the link as it will be found by what is set: of a port that comes from
// elsewhere the kernel keeps nothing that its bridge knew of it.
func asFound(want, got linkspec.Link) linkspec.Link {
	if !joins(want, got) {
		return got
	}
	got = got.OffBridge()
	got.Disabled = want.Disabled // no port is as it joins, and one that is down cannot be told
	return got
}

// unguarded is the declared link with the flags of anybody's port, and nothing bound to
// it, if a guard is to be taken off it: they stood behind that. Where no guard was, they
// are nobody's business.
func unguarded(want, got linkspec.Link) linkspec.Link {
	if want.Guard == nil || !want.Guard.Off() || got.Guard == nil || got.Guard.Off() && got.Guard.Instead == "" {
		return want
	}
	for _, on := range []**bool{&want.Learning, &want.UnicastFlood, &want.BroadFlood, &want.McastFlood, &want.McastRouter} {
		*on = new(true)
	}
	for _, off := range []**bool{&want.BPDUGuard, &want.RootBlock, &want.Locked} {
		*off = new(false)
	}
	want.NoStations = got.Stations
	return want
}

// joins tells whether the link is to be a port of a bridge that it is not on.
func joins(want, got linkspec.Link) bool {
	return want.Master != nil && *want.Master != "" && (got.Master == nil || *got.Master != *want.Master)
}

// fetchAll returns those of the stations that can be bound to the port now, and why the
// others cannot.
func (r *Receipt) fetchAll(want linkspec.Link, macs []net.HardwareAddr) (fetched []net.HardwareAddr, err error) {
	var errs []error
	for _, mac := range macs {
		if err := r.fetch(want, mac); err != nil {
			errs = append(errs, err)
		} else {
			fetched = append(fetched, mac)
		}
	}
	return fetched, errors.Join(errs...)
}

// fetch takes the station away from the port of the bridge that it was bound to by
// somebody else, unless it is that one's guest.
func (r *Receipt) fetch(want linkspec.Link, mac net.HardwareAddr) error {
	if want.Master == nil {
		return nil
	}
	holder, err := r.k.Holder(*want.Master, mac)
	if err != nil {
		return fmt.Errorf("look up %s on bridge %s: %w", mac, *want.Master, err)
	}
	if holder == "" || holder == want.Name {
		return nil
	}
	port, err := r.k.LinkIn(want.Netns, holder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", holder, err)
	}
	guard, err := r.k.Guard(port)
	if err != nil {
		return fmt.Errorf("look up %s: %w", holder, err)
	}
	if bytes.Equal(port.MAC, mac) || len(guard.MACs) > 0 && bytes.Equal(guard.MACs[0], mac) {
		return cnierr.New(cnierr.Config, "give one of the two another MAC address: DEL it, and ADD it again",
			"%s: the guest's MAC address %s is that of %s by now", want.Name, mac, holder)
	}
	if err := r.k.Set(port, linkspec.Link{NoStations: []net.HardwareAddr{mac}}); err != nil {
		return fmt.Errorf("take %s from %s: %w", mac, holder, err)
	}
	return nil
}

// Repaired are those differences that are no more.
func Repaired(before, after []linkspec.Difference) []linkspec.Difference {
	return slices.DeleteFunc(slices.Clone(before), func(d linkspec.Difference) bool {
		return slices.ContainsFunc(after, func(o linkspec.Difference) bool { return o.Link == d.Link && o.Field == d.Field })
	})
}
