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

// canFilter refuses what cannot work before anything is made: a kernel that does
// not know VLANs, or a bridge on which switching the filter on would cut somebody
// off. The filter leaves alone what goes on between ports that are in the default
// VLAN, as ports are to which nobody did anything: ours, on a bridge that does not
// filter. Of a port that is not ours it is not known what passes there.
func canFilter(k Kernel, bridge string) error {
	if bridge == "" {
		return nil
	}
	got, err := k.Link(bridge)
	if errors.Is(err, fs.ErrNotExist) {
		return k.CanFilter()
	}
	if err != nil {
		return fmt.Errorf("look up bridge %s: %w", bridge, err)
	}
	switch {
	case got.VLANFiltering == nil:
		return k.CanFilter()
	case *got.VLANFiltering:
		return nil
	}
	ports, err := k.Ports(bridge)
	if err != nil {
		return fmt.Errorf("list ports of %s: %w", bridge, err)
	}
	i := slices.IndexFunc(ports, func(l linkspec.Link) bool {
		return got.DefaultPVID == 0 || !attachment.HasPortHandle(l.AltNames)
	})
	if i < 0 {
		return nil
	}
	return cnierr.New(cnierr.Config,
		"see that each of its ports is in the VLANs that pass there (bridge vlan show; bridge vlan add vid N dev "+ports[i].Name+"), then: ip link set "+bridge+
			" type bridge vlan_filtering 1; or give the network with VLANs another bridge",
		"bridge %s does not tell VLANs apart yet, and to switch that on might cut off %s", bridge, ports[i].Name)
}

// release deletes a shared link that nobody uses.
func release(k Kernel, l linkspec.Link) error {
	if l.Kind == linkspec.VLANDevice {
		return releaseGateway(k, l.Name)
	}
	return releaseBridge(k, l.Name)
}

// ReleaseGateway deletes the gateway of a VLAN that this software made and that
// no port needs any more. Any other device of that name is left alone.
func ReleaseGateway(ctx context.Context, k Kernel, name string) error {
	// Most often it is there no more, or there are other ports: look before
	// waiting for the lock.
	if idle, err := idleGateway(k, name); err != nil || idle == nil {
		return err
	}
	unlock, err := k.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return releaseGateway(k, name)
}

// SweepGateways is ReleaseGateway for every VLAN of a bridge.
func SweepGateways(ctx context.Context, k Kernel, bridge string) error {
	links, err := k.Links()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, l := range links {
		if isGateway(l) && *l.Parent == bridge {
			errs = append(errs, ReleaseGateway(ctx, k, l.Name))
		}
	}
	return errors.Join(errs...)
}

// releaseGateway takes the bridge out of the VLAN first: as long as the device is
// there, whoever comes after a process that died here knows what to do.
func releaseGateway(k Kernel, name string) error {
	idle, err := idleGateway(k, name)
	if err != nil || idle == nil {
		return err
	}
	err = k.Set(*idle, linkspec.Link{Carried: new(false)})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release %s: %w", name, err)
	}
	if err := k.Delete(*idle); err != nil {
		return fmt.Errorf("delete gateway %s: %w", name, err)
	}
	return nil
}

// isGateway tells whether a link is the gateway of a VLAN, made by this software.
func isGateway(l linkspec.Link) bool {
	return l.Kind == linkspec.VLANDevice && l.Alias != nil && *l.Alias == attachment.GatewayTag && l.Parent != nil && l.VLANID != nil
}

// idleGateway returns the gateway of that name if it is ours and no port that we
// hold is in its VLAN, other than as one of a trunk.
func idleGateway(k Kernel, name string) (*linkspec.Link, error) {
	l, err := k.Link(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up gateway %s: %w", name, err)
	}
	if !isGateway(l) {
		return nil, nil
	}
	ports, err := k.Ports(*l.Parent)
	if errors.Is(err, fs.ErrNotExist) { // it went, and the gateway with it
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ports of %s: %w", *l.Parent, err)
	}
	for _, port := range ports {
		if !attachment.HasPortHandle(port.AltNames) {
			continue
		}
		got, err := k.Link(port.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look up port %s: %w", port.Name, err)
		}
		if v, in := linkspec.FindVLAN(got.VLANs, *l.VLANID); in && v.Native() {
			return nil, nil
		}
	}
	return &l, nil
}
