package verbs

import (
	"context"
	"errors"
	"os"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
	"github.com/microvm-cni/microvm-cni/pkg/result"
)

// rollback is the way back from what a verb did so far.
type rollback []func() error

func (r *rollback) before(step func() error) { *r = append(*r, step) }

// run takes every step back, last one first, whatever the others say.
func (r *rollback) run() error {
	var errs []error
	for _, step := range slices.Backward(*r) {
		errs = append(errs, step())
	}
	return errors.Join(errs...)
}

// add is all or nothing: what it did before it failed, or before its answer
// could not be written, is undone.
func (c *call) add(ctx context.Context) error {
	p, err := c.plan()
	if err != nil {
		return err
	}
	var back rollback
	answer, err := c.attach(ctx, p, &back)
	if err == nil {
		err = result.Print(os.Stdout, answer, c.version())
	}
	if err != nil {
		return errors.Join(err, back.run())
	}
	if err := c.k.KeepGuard(); err != nil { // which the guest does not need
		c.note("%v", err)
	}
	return nil
}

// attach claims the tap, asks the delegate for addresses, and brings about what
// the plan makes of them.
func (c *call) attach(ctx context.Context, p plan.Plan, back *rollback) (*types100.Result, error) {
	c.k.ExpectGuard(p.Guard())
	facts, err := reconcile.Observe(c.k, p.Observe())
	if err != nil {
		return nil, err
	}
	claim, err := p.Claim(facts)
	if err != nil {
		return nil, err
	}
	if _, err = c.apply(ctx, claim, back); err != nil {
		return nil, err
	}
	var addresses *types100.Result
	if d := c.delegate(p.Delegate()); d != nil {
		if _, err = d.find(); err != nil {
			return nil, err // and there is nobody to call for a rollback
		}
		// A delegate that failed may have reserved something all the same.
		back.before(func() error { return d.del(context.WithoutCancel(ctx)) })
		if addresses, err = d.add(ctx); err != nil {
			return nil, err
		}
	}
	return c.settle(ctx, p, addresses, back)
}

// settle looks at the host again, now that nobody else changes what is shared,
// and brings the plan's state about.
func (c *call) settle(ctx context.Context, p plan.Plan, addresses *types100.Result, back *rollback) (*types100.Result, error) {
	if p.Shared() {
		unlock, err := c.k.Lock(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	facts, err := reconcile.Observe(c.k, p.Observe())
	if err != nil {
		return nil, err
	}
	state, answer, err := p.Settle(facts, addresses)
	if err != nil {
		return nil, err
	}
	receipt, err := c.apply(ctx, state, back)
	if err != nil {
		return nil, err
	}
	return result.Build(p.Previous(), answer, receipt.Observed), nil
}

// apply brings a state about and registers the way back.
func (c *call) apply(ctx context.Context, s linkspec.State, back *rollback) (*reconcile.Receipt, error) {
	receipt, err := reconcile.Apply(ctx, c.k, s)
	if err != nil {
		return nil, err
	}
	back.before(func() error {
		if s.Shared() {
			unlock, err := c.k.Lock(context.WithoutCancel(ctx))
			if err != nil {
				return err
			}
			defer unlock()
		}
		return receipt.Undo()
	})
	return receipt, nil
}

// version is the configuration's cniVersion; the skeleton has checked it.
func (c *call) version() string { return confVersion(c.StdinData) }
