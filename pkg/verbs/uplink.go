package verbs

import (
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// uplinkReady tells whether an ADD would find the NIC fit for its bridge.
func (c *call) uplinkReady(u *plan.Uplink) error {
	facts, err := reconcile.Observe(c.k, u.Observe())
	if err != nil {
		return err
	}
	want, err := u.Declare(facts)
	if err != nil || want.Role != linkspec.Lent {
		return err
	}
	return reconcile.Lendable(c.k, want.Name)
}
