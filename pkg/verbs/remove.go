package verbs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// del removes what the attachment has, by identity: it needs neither a
// prevResult nor a namespace, and nothing to remove is success.
func (c *call) del(ctx context.Context) error {
	r, err := c.Removal(c.StdinData, c.runtime())
	if err != nil {
		return err
	}
	if !r.Port {
		return reconcile.RemoveIn(c.k, r.Netns, r.Attachment, r.Names...)
	}
	return c.detach(ctx, r)
}

// detach takes the port off the bridge first, so that no guest uses an address
// that is free already, and gives up its handle last, so that GC finds what a
// killed DEL left.
func (c *call) detach(ctx context.Context, r plan.Removal) error {
	devices, err := reconcile.Devices(c.k, r.Attachment)
	errs := []error{err, reconcile.Disconnect(c.k, r.Attachment, devices, r.Names...)}
	var freed error
	if d := c.delegate(r.Delegate); d != nil {
		freed = d.del(ctx)
	}
	errs = append(errs, c.unmasquerade(ctx, r, r.Attachment.ContainerID), reconcile.DeleteDevices(c.k, devices))
	if freed == nil {
		errs = append(errs, reconcile.Forget(c.k, r.Attachment))
	} else {
		// libcni stops the chain here: microvm-tap will not be called.
		errs = append(errs, freed, reconcile.RemovePort(c.k, r.Attachment),
			reconcile.RemoveIn(c.k, r.Netns, r.Attachment, r.Names...))
	}
	// With the bridge goes its gateway, so that comes second.
	errs = append(errs, reconcile.ReleaseUplink(ctx, c.k, r.Joined), c.releaseBridge(ctx, r.Bridge))
	if r.Gateway != "" {
		errs = append(errs, reconcile.ReleaseGateway(ctx, c.k, r.Gateway))
	}
	return errors.Join(errs...)
}

// unmasquerade ends what no port of the network relies on any more, and with
// iptables what the container does not.
func (c *call) unmasquerade(ctx context.Context, r plan.Removal, containerID string) error {
	var errs []error
	for _, m := range r.Masquerades {
		if m.Backend == linkspec.IPTables {
			m.ContainerID = containerID
		}
		errs = append(errs, reconcile.ReleaseMasquerade(ctx, c.k, m, r.Joined))
	}
	return errors.Join(errs...)
}

func (c *call) releaseBridge(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	return reconcile.ReleaseBridge(ctx, c.k, name)
}

// gc removes what is left of attachments that are not valid any more. It goes
// on after an error and reports all of them.
func (c *call) gc(ctx context.Context) error {
	r, err := c.Removal(c.StdinData, config.Runtime{})
	if err != nil {
		return err
	}
	valid, err := config.ValidAttachments(c.StdinData, r.Attachment.Network)
	if err != nil && (!errors.Is(err, config.ErrNoList) || !calledByCnitool()) {
		return err
	}
	if !r.Port {
		stale, err := reconcile.StaleTaps(c.k, r.Attachment.Network, valid)
		if err != nil {
			return err
		}
		return reconcile.DeleteStale(c.k, stale)
	}
	errs := []error{c.sweepPorts(ctx, r, valid), c.sweepMasquerade(ctx, r, valid), reconcile.ReleaseUplink(ctx, c.k, r.Joined), c.releaseBridge(ctx, r.Bridge), reconcile.SweepGateways(ctx, c.k, r.Joined)}
	if d := c.delegate(r.Delegate); d != nil {
		errs = append(errs, d.gc(ctx))
	}
	return errors.Join(errs...)
}

// sweepMasquerade ends what was left without a port to tell whose it is.
func (c *call) sweepMasquerade(ctx context.Context, r plan.Removal, valid []attachment.Attachment) error {
	var errs []error
	for _, m := range r.Masquerades {
		if m.Backend == linkspec.IPTables {
			errs = append(errs, reconcile.SweepMasquerade(ctx, c.k, m.Network, valid))
		} else {
			errs = append(errs, reconcile.ReleaseMasquerade(ctx, c.k, m, r.Joined))
		}
	}
	return errors.Join(errs...)
}

// calledByCnitool tells whether a person is asking, through cnitool's gc. That
// command means "everything must go": libcni deletes every attachment in its
// cache and then, given no arguments, leaves the list out. From any other
// runtime a missing list is a mistake that must not cost a guest its network,
// and the two calls look the same but for who makes them.
func calledByCnitool() bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", os.Getppid()))
	return err == nil && strings.TrimSpace(string(name)) == "cnitool"
}

// sweepPorts frees the addresses of each stale port and deletes it. A port whose
// delegate fails stays, disconnected, so that the next GC tries again.
func (c *call) sweepPorts(ctx context.Context, r plan.Removal, valid []attachment.Attachment) error {
	stale, err := reconcile.StalePorts(c.k, r.Attachment.Network, valid)
	if err != nil {
		return err
	}
	var errs []error
	var free []reconcile.Stale
	for _, s := range stale {
		if s.Device { // ports may still lead there: they are off their bridges
			free = append(free, s)
			continue
		}
		if err := c.freePort(ctx, r, s); err != nil {
			errs = append(errs, err)
			continue
		}
		if s.Own {
			free = append(free, s)
		}
	}
	return errors.Join(append(errs, reconcile.DeleteStale(c.k, free))...)
}

func (c *call) freePort(ctx context.Context, r plan.Removal, s reconcile.Stale) error {
	c.noteDrops(s.Link.Name)
	if err := reconcile.DisconnectStale(c.k, s); err != nil {
		return err
	}
	if d := c.delegate(r.Delegate); d != nil && s.Known {
		if err := d.of(s.Attachment).del(ctx); err != nil {
			return err
		}
	}
	if s.Known {
		if err := c.unmasquerade(ctx, r, s.Attachment.ContainerID); err != nil {
			return err
		}
	}
	if s.Own {
		return nil
	}
	return reconcile.ForgetStale(c.k, s, r.Attachment.Network)
}
