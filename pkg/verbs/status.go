package verbs

import (
	"context"
	"errors"
	"io/fs"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/kernel"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// status succeeds only if an ADD could work now.
func (c *call) status(ctx context.Context) error {
	needs, err := c.Needs(c.StdinData, host{k: c.k})
	if err != nil {
		return err
	}
	if needs.Tun {
		if err := kernel.ProbeTun(); err != nil {
			return unavailable(err)
		}
	}
	if needs.Bridge != "" {
		if err := c.bridgeReady(needs.Bridge, needs.MustExist); err != nil {
			return unavailable(err)
		}
	}
	if err := c.fits(needs); err != nil {
		return unavailable(err)
	}
	if needs.Uplink != nil {
		if err := c.uplinkReady(needs.Uplink); err != nil {
			return unavailable(err)
		}
	}
	if needs.VLANs {
		if err := c.k.CanFilter(); err != nil {
			return unavailable(err)
		}
	}
	if needs.Masquerade != "" {
		if _, err := c.k.Masquerades(linkspec.Masquerade{Backend: needs.Masquerade}); err != nil {
			return unavailable(err)
		}
	}
	if err := c.guardReady(needs); err != nil {
		return unavailable(err)
	}
	if d := c.delegate(needs.Delegate); d != nil {
		return d.status(ctx)
	}
	return nil
}

// guardReady tells whether ports can be guarded, and what the guards would lack.
func (c *call) guardReady(needs plan.Needs) error {
	if needs.Unguarded {
		c.note(`ports get no guard ("mode": "off"): guests may send what they like`)
	}
	if needs.Guard {
		caveat, err := c.k.GuardSupported()
		if err != nil {
			return err
		}
		if caveat != "" {
			c.note("%s", caveat)
		}
	}
	if needs.Closed != "" {
		caveat, err := c.k.GuardClosesHost(needs.Closed)
		if err != nil {
			return err
		}
		if caveat != "" {
			c.note("%s", caveat)
		}
	}
	return nil
}

// fits tells whether what stands on the host would do for an ADD.
func (c *call) fits(needs plan.Needs) error {
	if needs.Fits != nil {
		facts, err := reconcile.Observe(c.k, needs.Observe)
		if err != nil {
			return err
		}
		if err := needs.Fits(facts); err != nil {
			return err
		}
	}
	for _, s := range needs.Sysctls {
		if err := c.k.CanSet(s); err != nil {
			return err
		}
	}
	return nil
}

// unavailable keeps what an error says and gives it the code of STATUS.
func unavailable(err error) error {
	e := cnierr.Find(err, cnierr.NotAvailable, "call STATUS again when the host is ready")
	return cnierr.New(cnierr.NotAvailable, e.Details, "%s", e.Msg)
}

func (c *call) bridgeReady(name string, mustExist bool) error {
	bridge, err := c.k.Link(name)
	if errors.Is(err, fs.ErrNotExist) {
		if mustExist {
			return cnierr.New(cnierr.NotAvailable, "with \"bridgeMode\": \"existing\" the host's network manager makes the bridge: start it, or use \"create\"",
				"bridge %s does not exist", name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if bridge.Kind != linkspec.Bridge {
		return cnierr.New(cnierr.NotAvailable, "give \"bridge\" the name of a bridge, or a name that is not taken",
			"%s is not a bridge but a %s device", name, bridge.Kind)
	}
	if mustExist && !*bridge.Up {
		return cnierr.New(cnierr.NotAvailable, "set it up: ip link set "+name+" up", "bridge %s is down", name)
	}
	ports, err := c.k.Ports(name)
	if err != nil {
		return err
	}
	if len(ports) >= kernel.MaxPorts {
		return cnierr.New(cnierr.NotAvailable, "give further guests another bridge, in a conflist of its own",
			"bridge %s has %d ports, which is all that a bridge can have", name, len(ports))
	}
	return nil
}
