package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Lendable refuses a NIC, unless it is a port already, through which something
// is routed that would be lost once it is one. Its addresses are the plan's
// concern.
func Lendable(k Kernel, name string) error {
	_, err := lendable(k, name)
	return err
}

func lendable(k Kernel, name string) (linkspec.Link, error) {
	nic, err := k.Link(name)
	if err != nil || *nic.Master != "" {
		return nic, err
	}
	routes, err := k.Routes(name)
	if err != nil {
		return nic, fmt.Errorf("list routes of %s: %w", name, err)
	}
	if len(routes) > 0 {
		return nic, cnierr.New(cnierr.Config,
			"move the route to the bridge, or remove it (ip route flush dev "+name+"), where the host's network manager has it from: [Route] and Gateway= in the .network file (systemd-networkd), nmcli connection modify ... ipv4.routes '' ipv4.gateway '' (NetworkManager)",
			"uplink %s: the host has a route to %s through it, which would lead nowhere once it is a port of a bridge", name, routes[0])
	}
	return nic, nil
}

// lend makes the NIC a port. What takes it back looks for its handle, which is
// on the NIC before anything else changes.
func (r *Receipt) lend(want, got, change linkspec.Link) error {
	r.before(func() error { return releaseUplink(r.k, *want.Master) })
	err := r.k.Set(got, change)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e := cnierr.Find(err, cnierr.Kernel, "the kernel puts only Ethernet NICs on a bridge: no wireless ones of a station, no macvlan or ipvlan; use another NIC, or remove \"uplink\" and route or masquerade")
	return cnierr.New(e.Code, e.Details, "make uplink %s a port of bridge %s: %w", want.Name, *want.Master, err)
}

// ReleaseUplink gives the NIC that was lent to the bridge back to the host, once
// the bridge has no guests. That none was lent, or is any more, is no error.
func ReleaseUplink(ctx context.Context, k Kernel, bridge string) error {
	// Most often there are other guests: look before waiting for the lock.
	if nic, err := idleUplink(k, bridge); err != nil || nic == nil {
		return err
	}
	unlock, err := k.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return releaseUplink(k, bridge)
}

// releaseUplink takes the handle off last, so that a process that dies before
// leaves what the next one finds. A NIC that the host took back, or uses again, is
// not set down.
func releaseUplink(k Kernel, bridge string) error {
	nic, err := idleUplink(k, bridge)
	if err != nil || nic == nil {
		return err
	}
	handles := slices.DeleteFunc(attachment.UplinkHandles(bridge), func(h string) bool { return !slices.Contains(nic.AltNames, h) })
	steps := []linkspec.Link{{NoAltNames: handles}}
	if *nic.Master == bridge || *nic.Master == "" { // else somebody moved it, and looks after it
		back := linkspec.Link{Master: new("")}
		used, err := inUse(k, *nic)
		if err != nil {
			return err
		}
		if !used && slices.Contains(handles, attachment.UplinkHandle(bridge, false)) {
			back.Up = new(false)
		}
		steps = append([]linkspec.Link{back}, steps...)
	}
	for _, step := range steps {
		err := k.Set(*nic, step)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("release uplink %s of bridge %s: %w", nic.Name, bridge, err)
		}
	}
	return nil
}

// inUse tells whether the host has an address or a route on the NIC.
func inUse(k Kernel, nic linkspec.Link) (bool, error) {
	if slices.ContainsFunc(nic.Addresses, linkspec.Address.Reachable) {
		return true, nil
	}
	routes, err := k.Routes(nic.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list routes of %s: %w", nic.Name, err)
	}
	return len(routes) > 0, nil
}

// idleUplink returns the NIC that was lent to the bridge, if the bridge has no
// guests, or is gone.
func idleUplink(k Kernel, bridge string) (*linkspec.Link, error) {
	if bridge == "" {
		return nil, nil
	}
	nic, err := find(k, "", attachment.UplinkHandles(bridge), func(linkspec.Link) bool { return true })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	used, err := k.AnyPort(bridge, func(l linkspec.Link) bool { return attachment.HasPortHandle(l.AltNames) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for ports of %s: %w", bridge, err)
	}
	if used {
		return nil, nil
	}
	return &nic, nil
}
