package verbs

import (
	"context"
	"errors"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// check fails when the host is not, or no longer, as ADD promised, and names
// what differs; then it asks the delegate the same.
func (c *call) check(ctx context.Context) error {
	p, err := c.plan()
	var gone netnsError
	if errors.As(err, &gone) {
		return cnierr.New(cnierr.Mismatch, "a guest whose VMM ran in it is cut off: DEL the attachment, make the namespace again, and ADD it anew", "%w", err)
	}
	if err != nil {
		return err
	}
	if p.Previous() == nil {
		return cnierr.New(cnierr.Config, "CHECK needs the result of ADD as prevResult: call it through libcni or cnitool, after an ADD",
			"prevResult is missing")
	}
	facts, err := reconcile.Observe(c.k, p.Observe())
	if err != nil {
		return err
	}
	promise, err := p.Promise(facts)
	if err != nil {
		return err
	}
	diffs, err := reconcile.Diff(c.k, promise)
	if err != nil {
		return err
	}
	c.noteGuards(promise)
	var errs []error
	if len(diffs) > 0 {
		errs = append(errs, reconcile.Mismatch(diffs))
	}
	if d := c.delegate(p.Delegate()); d != nil && d.Check {
		errs = append(errs, d.check(ctx))
	}
	return errors.Join(errs...)
}
