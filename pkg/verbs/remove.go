package verbs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
// killed DEL left. A port that cannot be taken off keeps its address.
func (c *call) detach(ctx context.Context, r plan.Removal) error {
	devices, err := reconcile.Devices(c.k, r.Attachment)
	if err != nil {
		return err
	}
	was, err := reconcile.Disconnect(c.k, r.Attachment, devices, r.Names...)
	if err != nil {
		return err
	}
	var freed error
	if d := c.delegate(r.Delegate); d != nil {
		freed = d.del(ctx)
	}
	giveBack, err := reconcile.Unsplice(c.k, r.Netns, r.Attachment, r.Names...)
	errs := []error{err, c.unmasquerade(ctx, r), reconcile.DeleteDevices(c.k, devices)}
	if freed == nil {
		errs = append(errs, reconcile.Forget(ctx, c.k, r.Attachment, r.Joined, was))
	} else {
		// libcni stops the chain here: microvm-tap will not be called.
		errs = append(errs, freed, reconcile.RemovePort(c.k, r.Attachment),
			reconcile.RemoveIn(c.k, r.Netns, r.Attachment, r.Names...))
	}
	errs = append(errs, giveBack())
	// With the bridge goes its gateway, so that comes second.
	errs = append(errs, c.releaseBridges(ctx, r, was))
	if r.Gateway != "" {
		errs = append(errs, reconcile.ReleaseGateway(ctx, c.k, r.Gateway))
	}
	return errors.Join(errs...)
}

// releaseBridges ends what only guests kept: of the bridge that the configuration
// names, and of those that ports were on. A bridge that is not ours stays.
func (c *call) releaseBridges(ctx context.Context, r plan.Removal, were ...string) error {
	bridges := []string{r.Joined}
	for _, b := range were {
		if b != "" && !slices.Contains(bridges, b) {
			bridges = append(bridges, b)
		}
	}
	var errs []error
	for _, b := range bridges {
		errs = append(errs, reconcile.ReleaseUplink(ctx, c.k, b))
		if b != r.Joined || r.Bridge != "" {
			errs = append(errs, reconcile.ReleaseBridge(ctx, c.k, b))
		}
	}
	return errors.Join(errs...)
}

// unmasquerade ends what no port of the network relies on any more, and with
// iptables what the container does not.
func (c *call) unmasquerade(ctx context.Context, r plan.Removal) error {
	var errs []error
	for _, m := range r.Masquerades {
		errs = append(errs, c.lacking(m, reconcile.ReleaseMasquerade(ctx, c.k, m, r.Joined)))
	}
	return errors.Join(errs...)
}

// lacking forgives a host that has not got what masquerades. iptables is asked for
// only where the configuration says so: then somebody should know that nobody looked.
func (c *call) lacking(m linkspec.Masquerade, err error) error {
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if m.Backend == linkspec.IPTables {
		c.note("rules of network %s, if there are any, stay: %v", m.Network, err)
	}
	return nil
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
		var stale []reconcile.Stale
		if stale, err = reconcile.StaleTaps(c.k, r.Attachment.Network, valid); err != nil {
			return err
		}
		return reconcile.DeleteStale(c.k, stale)
	}
	were, err := c.sweepPorts(ctx, r, valid)
	errs := []error{err, c.sweepMasquerade(ctx, r, valid), c.releaseBridges(ctx, r, were...), reconcile.SweepGateways(ctx, c.k, r.Joined)}
	if d := c.delegate(r.Delegate); d != nil {
		errs = append(errs, d.gc(ctx))
	}
	if len(valid) == 0 {
		errs = append(errs, c.k.ForgetGuards())
	}
	return errors.Join(errs...)
}

// sweepMasquerade ends what was left without a port to tell whose it is.
func (c *call) sweepMasquerade(ctx context.Context, r plan.Removal, valid []attachment.Attachment) error {
	var errs []error
	for _, m := range r.Masquerades {
		if m.Backend == linkspec.IPTables {
			errs = append(errs, c.lacking(m, reconcile.SweepMasquerade(ctx, c.k, m.Network, valid)))
		} else {
			errs = append(errs, c.lacking(m, reconcile.ReleaseMasquerade(ctx, c.k, m, r.Joined)))
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

// sweepPorts frees the addresses of each stale port and deletes it, and returns the
// bridges that they were on. A port whose delegate fails stays, disconnected, so that
// the next GC tries again. A device without its port tells of an attachment, too.
func (c *call) sweepPorts(ctx context.Context, r plan.Removal, valid []attachment.Attachment) (bridges []string, err error) {
	stale, err := reconcile.StalePorts(c.k, r.Attachment.Network, valid)
	if err != nil {
		return nil, err
	}
	// Ports may still lead to devices, and are off their bridges by the end.
	slices.SortStableFunc(stale, func(a, b reconcile.Stale) int { return order(a) - order(b) })
	var errs []error
	var free []reconcile.Stale
	done := map[attachment.Attachment]error{}
	for _, s := range stale {
		err, known := done[s.Attachment]
		if !s.Device || !known {
			var bridge string
			bridge, err = c.freePort(ctx, r, s)
			bridges, errs = append(bridges, bridge), append(errs, err)
			if s.Known {
				done[s.Attachment] = err
			}
		}
		if err == nil && (s.Own || s.Device) {
			free = append(free, s)
		}
	}
	return bridges, errors.Join(append(errs, reconcile.DeleteStale(c.k, free))...)
}

func order(s reconcile.Stale) int {
	if s.Device {
		return 1
	}
	return 0
}

func (c *call) freePort(ctx context.Context, r plan.Removal, s reconcile.Stale) (bridge string, err error) {
	if !s.Device {
		c.noteDrops(s.Link.Name)
		if bridge, err = reconcile.DisconnectStale(c.k, s); err != nil {
			return "", err
		}
	}
	switch d := c.delegate(r.Delegate); {
	case d != nil && !s.Known:
		c.note("%s does not tell any more for whom it was made: the addresses that IPAM plugin %s gave its guest stay taken until a DEL of that attachment", s.Link.Name, r.Delegate.Type)
	case d != nil:
		if err := d.of(s.Attachment).del(ctx); err != nil {
			return bridge, err
		}
	}
	// The network's rules are for later: they go with the last of its ports.
	for _, m := range r.Masquerades {
		if m.Backend != linkspec.IPTables || !s.Known {
			continue
		}
		m.ContainerID = s.Attachment.ContainerID
		if err := c.lacking(m, reconcile.ReleaseMasquerade(ctx, c.k, m, r.Joined)); err != nil {
			return bridge, err
		}
	}
	if s.Own || s.Device {
		return bridge, nil
	}
	return bridge, reconcile.ForgetStale(ctx, c.k, s, r.Attachment.Network, r.Joined, bridge)
}
