package verbs

import (
	"context"
	"errors"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// check fails when the host is not, or no longer, as ADD promised, and names
// what differs; then it asks the delegate the same. Asked to, it puts right what it
// can first.
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
	promise, diffs, err := c.compare(p)
	if err != nil {
		return err
	}
	var errs []error
	if len(diffs) > 0 && p.Repairs() {
		if diffs, err = c.repair(ctx, p); err != nil {
			errs = append(errs, err)
		}
	}
	told := c.noteGuards(promise, diffs)
	if len(diffs) > 0 {
		err := reconcile.Mismatch(diffs)
		for _, text := range told { // of a plugin that fails, libcni does not show standard error
			err.Details += "; " + text
		}
		errs = append(errs, err)
	}
	if d := c.delegate(p.Delegate()); d != nil && d.Check {
		errs = append(errs, d.check(ctx))
	}
	return errors.Join(errs...)
}

// compare returns what the host should be, and what sets it apart from that.
func (c *call) compare(p plan.Plan) (linkspec.State, []linkspec.Difference, error) {
	facts, err := reconcile.Observe(c.k, p.Observe())
	if err != nil {
		return linkspec.State{}, nil, err
	}
	promise, err := p.Promise(facts)
	if err != nil {
		return linkspec.State{}, nil, err
	}
	diffs, err := reconcile.Diff(c.k, promise)
	return promise, diffs, err
}

// repair looks once more, now that nobody else changes what is shared, puts right
// what can be, and returns what still differs.
func (c *call) repair(ctx context.Context, p plan.Plan) ([]linkspec.Difference, error) {
	if p.Shared() {
		unlock, err := c.k.Lock(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	promise, before, err := c.compare(p)
	if err != nil {
		return nil, err
	}
	fault := reconcile.Repair(c.k, p.Attachment(), promise)
	_, after, err := c.compare(p)
	if done := reconcile.Repaired(before, after); err == nil && len(done) > 0 {
		var words []string
		for _, d := range done {
			words = append(words, d.String())
		}
		c.note("put right: %s", strings.Join(words, "; "))
	}
	return after, errors.Join(fault, err)
}
