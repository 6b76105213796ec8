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
// It stops at the first error, and undoes nothing: each step is one towards what was
// declared. The caller holds the lock if the state is Shared.
func Repair(k Kernel, a attachment.Attachment, s linkspec.State) error {
	r := &Receipt{k: k}
	for _, c := range s.Sysctls {
		if err := r.sysctl(c); err != nil {
			return err
		}
	}
	if err := r.masquerade(s); err != nil {
		return err
	}
	for _, want := range s.Links {
		if err := r.repair(a, want); err != nil {
			return err
		}
	}
	for _, want := range s.Links {
		if err := r.steady(want); err != nil {
			return err
		}
	}
	return nil
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
	change, differs := linkspec.Change(want, asFound(want, got))
	if !differs || want.Kind != "" && got.Kind != want.Kind {
		return nil
	}
	switch ours, err := belongs(r.k, a, want, got); {
	case err != nil:
		return err
	case !ours: // no code of its own: what differs is still that it is not as promised
		return fmt.Errorf("%s: what has the name is somebody else's device, and left as it is", want.Key())
	}
	for _, mac := range change.Stations {
		if err := r.fetch(want, mac); err != nil {
			return err
		}
	}
	// What can only be given when a link is made.
	change.Owner, change.Group, change.MultiQueue, change.Persist = nil, nil, nil, nil
	change.Parent, change.VLANID, change.Deaf = nil, nil, nil
	set := r.k.Set
	if joins(want, got) && *got.Up {
		set = r.join
	}
	if err := set(got, change); err != nil {
		return fmt.Errorf("repair %s: %w", want.Key(), err)
	}
	return nil
}

// join sets what puts a port that is up on a bridge, down meanwhile: it would forward
// frames from the moment at which it joins, with the flags of anybody's port. One that
// does not come to join is as it was.
func (r *Receipt) join(port, change linkspec.Link) error {
	change.Up = new(false)
	err := r.k.Set(port, change)
	if err != nil {
		got, lookup := r.k.LinkIn(port.Netns, port.Name)
		if lookup != nil || got.Index != port.Index || *got.Master == *change.Master {
			return err
		}
	}
	return errors.Join(err, r.k.Set(port, linkspec.Link{Up: new(true)}))
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

// joins tells whether the link is to be a port of a bridge that it is not on.
func joins(want, got linkspec.Link) bool {
	return want.Master != nil && *want.Master != "" && (got.Master == nil || *got.Master != *want.Master)
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
