package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Receipt is what Apply did: the links as they are now, and the way back.
type Receipt struct {
	Observed map[string]linkspec.Link // by key, read back from the kernel

	k     Kernel
	steps []func() error // each takes one step back
}

// Apply brings the state about and reads it back. When that fails, or when what
// is read back is not what was declared, everything that Apply changed is put
// back before it returns. The caller holds the lock if the state is Shared.
func Apply(ctx context.Context, k Kernel, s linkspec.State) (*Receipt, error) {
	r := &Receipt{k: k, Observed: map[string]linkspec.Link{}}
	if err := r.bringAbout(ctx, s); err != nil {
		return nil, errors.Join(err, r.Undo())
	}
	return r, nil
}

// Undo puts back what Apply changed, last step first. A step that fails does
// not keep the others from being taken.
func (r *Receipt) Undo() error {
	var errs []error
	for _, step := range slices.Backward(r.steps) {
		if err := step(); err != nil {
			errs = append(errs, fmt.Errorf("roll back: %w", err))
		}
	}
	r.steps = nil
	return errors.Join(errs...)
}

// before registers the way back from an act that is about to be tried.
func (r *Receipt) before(step func() error) { r.steps = append(r.steps, step) }

func (r *Receipt) bringAbout(ctx context.Context, s linkspec.State) error {
	if err := canFilter(r.k, s.Filters); err != nil {
		return err
	}
	for _, c := range s.Sysctls {
		if err := r.sysctl(c); err != nil {
			return err
		}
	}
	if err := r.masquerade(s); err != nil {
		return err
	}
	var drafts []Draft
	for _, want := range s.Links {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("apply state: %w", err)
		}
		draft, err := r.link(want)
		if err != nil {
			return err
		}
		if draft != nil {
			drafts = append(drafts, draft)
		}
	}
	for _, want := range s.Links {
		if err := r.steady(want); err != nil {
			return err
		}
	}
	// Last of all: a process that dies before this leaves no tap.
	for _, d := range drafts {
		if err := d.Keep(); err != nil {
			return fmt.Errorf("keep link: %w", err)
		}
	}
	return r.readBack(s)
}

// sysctl is never undone: by the time of an undo others may rely on it.
func (r *Receipt) sysctl(c linkspec.Sysctl) error {
	value, err := r.k.Sysctl(c.Key)
	if err != nil {
		return fmt.Errorf("read sysctl %s: %w", c.Key, err)
	}
	if value == c.Value {
		return nil
	}
	if err := r.k.SetSysctl(c.Key, c.Value); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", c.Key, c.Value, err)
	}
	return nil
}

// link brings one link about, as far as that can be done without keeping it.
func (r *Receipt) link(want linkspec.Link) (Draft, error) {
	var draft Draft
	var got linkspec.Link
	var err error
	switch want.Role {
	case linkspec.Owned:
		draft, got, err = r.create(want)
	case linkspec.Shared:
		draft, got, err = r.ensure(want)
	case linkspec.Lent:
		got, err = lendable(r.k, want.Name)
	default:
		got, err = look(r.k, want)
	}
	if err != nil && want.Role == linkspec.Lent { // which says so itself
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", want.Kind, want.Key(), err)
	}
	r.before(func() error {
		return r.steady(linkspec.Link{Role: want.Role, Kind: want.Kind, Name: want.Name, MAC: got.MAC, MTU: got.MTU})
	})
	if len(want.Stations) > 0 { // to bind what another port has takes it away from there
		if err = r.stations(want, got); err != nil {
			return nil, err
		}
	}
	if err = r.set(want, got); err != nil {
		return nil, err
	}
	return draft, r.stations(want, got)
}

// steady puts back what a port changed of its bridge by coming or going: one
// that nobody gave a MAC address or an MTU takes its ports'. From then on it
// has its own.
func (r *Receipt) steady(want linkspec.Link) error {
	if want.Kind != linkspec.Bridge || want.Role != linkspec.Shared && want.Role != linkspec.Joined {
		return nil
	}
	got, err := r.k.LinkIn(want.Netns, want.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the read-back says so
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", want.Kind, want.Key(), err)
	}
	change, differs := linkspec.Change(linkspec.Link{MAC: want.MAC, MTU: want.MTU}, got)
	if !differs {
		return nil
	}
	if err := r.k.Set(got, change); err != nil {
		return fmt.Errorf("keep MAC and MTU of %s: %w", want.Name, err)
	}
	return nil
}

// create makes a link that must not exist yet.
func (r *Receipt) create(want linkspec.Link) (Draft, linkspec.Link, error) {
	draft, err := r.k.Create(want)
	if errors.Is(err, fs.ErrExist) {
		return nil, linkspec.Link{}, taken(r.k, want, err)
	}
	if err != nil {
		return nil, linkspec.Link{}, fmt.Errorf("create: %w", err)
	}
	var got linkspec.Link
	r.before(func() error { return r.discard(draft, want, got.Index) })
	got, err = r.k.LinkIn(want.Netns, want.Name)
	return draft, got, err
}

// discard takes back a link that this receipt created, kept or not. By then the
// name may be somebody else's, which the index tells; it is 0 for a link that
// was never looked at, and so never kept.
func (r *Receipt) discard(draft Draft, want linkspec.Link, index int) error {
	if err := draft.Discard(); err != nil {
		return fmt.Errorf("discard %s: %w", want.Name, err)
	}
	got, err := r.k.LinkIn(want.Netns, want.Name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && got.Index != index {
		return nil
	}
	if err != nil {
		return err
	}
	return r.k.Delete(got)
}

// ensure makes a shared link, or finds it.
func (r *Receipt) ensure(want linkspec.Link) (Draft, linkspec.Link, error) {
	got, err := r.k.LinkIn(want.Netns, want.Name)
	if err == nil {
		// The plan tags a bridge only when it takes it for missing, or for ours.
		if want.Alias != nil && (got.Alias == nil || *got.Alias != *want.Alias) {
			return nil, got, cnierr.New(cnierr.TryAgain, "call ADD again: it will use the bridge as it finds it",
				"somebody else made it in the meantime")
		}
		return nil, got, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, got, err
	}
	// A Create that fails half way may leave a link, but one that is ours.
	r.before(func() error { return release(r.k, want) })
	draft, err := r.k.Create(want)
	if err != nil {
		return nil, got, fmt.Errorf("create: %w", err)
	}
	got, err = r.k.LinkIn(want.Netns, want.Name)
	if err != nil {
		return nil, got, err
	}
	// A bridge's MTU counts as its own only once it was set.
	fixed := linkspec.Link{MTU: want.MTU}
	if fixed.MTU != nil {
		if err := r.k.Set(got, fixed); err != nil {
			return nil, got, fmt.Errorf("fix MTU: %w", err)
		}
	}
	return draft, got, nil
}

// set gives an observed link the declared fields that it lacks.
func (r *Receipt) set(want, got linkspec.Link) error {
	change, differs := linkspec.Change(want, got)
	change.Persist = nil // the draft's Keep does that
	if !differs {
		return nil
	}
	switch want.Role {
	case linkspec.Joined:
		return mismatch(linkspec.Diff(want, got))
	case linkspec.Adopted:
		undo := linkspec.Undo(want, got)
		r.before(func() error { return r.restore(got, undo) })
	case linkspec.Shared:
		undo := linkspec.Undo(want, got)
		r.before(func() error { return r.restoreShared(got, undo) })
	case linkspec.Lent:
		return r.lend(want, got, change)
	case linkspec.Owned, linkspec.Observed: // goes with its draft
	}
	if err := r.k.Set(got, change); err != nil {
		return fmt.Errorf("set %s: %w", want.Key(), err)
	}
	return nil
}

func (r *Receipt) restore(got, undo linkspec.Link) error {
	err := r.k.Set(got, undo)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore %s: %w", got.Name, err)
	}
	return nil
}

// restoreShared leaves a bridge or gateway alone that other ports rely on by
// now: what was set on it is what their own attachments declare, too.
func (r *Receipt) restoreShared(got, undo linkspec.Link) error {
	if got.Kind == linkspec.VLANDevice {
		if idle, err := idleGateway(r.k, got.Name); err != nil || idle == nil {
			return err
		}
		return r.restore(got, undo)
	}
	ports, err := r.k.Ports(got.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list ports of %s: %w", got.Name, err)
	}
	if len(ports) > 0 {
		return nil
	}
	return r.restore(got, undo)
}

// stations refuses a port whose guest, or whose own MAC address, is already on
// the bridge. The kernel keeps the first holder of an address, so that of two
// processes that come here at once just one is refused.
func (r *Receipt) stations(want, got linkspec.Link) error {
	if want.Guest == nil || want.Master == nil {
		return nil
	}
	own := got.MAC
	if want.MAC != nil {
		own = want.MAC
	}
	for _, mac := range []net.HardwareAddr{want.Guest, own} {
		holder, err := r.k.Holder(*want.Master, mac)
		if err != nil {
			return fmt.Errorf("look up %s on bridge %s: %w", mac, *want.Master, err)
		}
		if holder != "" && holder != want.Name {
			remedy := "remove " + holder + " if its guest is gone"
			if holder == *want.Master {
				remedy = "if that is not the bridge's own (ip link show " + holder + "), take it off there: bridge fdb del " + mac.String() + " dev " + holder + " self"
			}
			return cnierr.New(cnierr.Config,
				"give this guest another MAC address (capability mac, or CNI_ARGS MAC=...), or "+remedy+"; `bridge fdb show` tells why it has the address",
				"%s: the guest's MAC address %s is taken on bridge %s, by %s", want.Name, want.Guest, *want.Master, holder)
		}
	}
	return nil
}

// readBack fails when the kernel does not show what was declared.
func (r *Receipt) readBack(s linkspec.State) error {
	diffs, observed, err := compare(r.k, s)
	if err != nil {
		return fmt.Errorf("read state back: %w", err)
	}
	r.Observed = observed
	return mismatch(diffs)
}
