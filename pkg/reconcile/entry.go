package reconcile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// diffEntries tells of bridges whose own entry is not in their forwarding database: what is
// to the gateway goes to somebody else then, or to all.
func diffEntries(k Kernel, s linkspec.State) (diffs []linkspec.Difference, err error) {
	for _, want := range s.Links {
		if want.Kind != linkspec.Bridge {
			continue
		}
		bridge, err := look(k, want)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", want.Key(), err)
		}
		holder, own, err := holderOf(k, bridge)
		if err != nil {
			return nil, err
		}
		if own {
			continue
		}
		d := linkspec.Difference{Link: want.Key(), Field: "fdb", Want: []string{bridge.MAC.String()}}
		if holder.Name != "" {
			d.Got = []string{"at " + holder.Name}
		}
		diffs = append(diffs, d)
	}
	return diffs, nil
}

// holderOf returns the port to which the bridge's own MAC address is bound, the zero Link
// for none, and whether that is as it should be: the bridge holds it, or a port that has it
// as its own.
func holderOf(k Kernel, bridge linkspec.Link) (holder linkspec.Link, own bool, err error) {
	if bridge.Kind != linkspec.Bridge || bridge.MAC == nil {
		return holder, true, nil
	}
	name, err := k.Holder(bridge.Name, bridge.MAC)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return holder, true, nil // gone meanwhile
	case err != nil:
		return holder, false, fmt.Errorf("look up %s on bridge %s: %w", bridge.MAC, bridge.Name, err)
	case name == "" || name == bridge.Name:
		return holder, name != "", nil
	}
	holder, err = k.LinkIn(bridge.Netns, name)
	if errors.Is(err, fs.ErrNotExist) {
		return linkspec.Link{}, false, nil // and with it the entry
	}
	if err != nil {
		return holder, false, fmt.Errorf("look up %s: %w", name, err)
	}
	return holder, bytes.Equal(holder.MAC, bridge.MAC), nil
}

// bringBack gives a bridge its own entry again.
func (r *Receipt) bringBack(bridge linkspec.Link) error {
	holder, own, err := holderOf(r.k, bridge)
	if err != nil || own {
		return err
	}
	mac := []net.HardwareAddr{bridge.MAC}
	if holder.Name != "" {
		if err := r.k.Set(holder, linkspec.Link{NoStations: mac}); err != nil {
			return fmt.Errorf("take %s from %s: %w", bridge.MAC, holder.Name, err)
		}
	}
	if err := r.k.Set(bridge, linkspec.Link{Stations: mac}); err != nil {
		return fmt.Errorf("give %s back to %s: %w", bridge.MAC, bridge.Name, err)
	}
	return nil
}
