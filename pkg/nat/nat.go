// Package nat masquerades what guests send beyond their network, with one of
// two backends: nftables over netlink, in a table of our own with rules for
// each network, or iptables, in the chains of the upstream plugins, for hosts
// and runtimes that build on their names.
//
// All of it happens in the network namespace of the calling thread.
package nat

import (
	"fmt"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// backend is one way to masquerade.
type backend interface {
	observe(of linkspec.Masquerade) ([]linkspec.Masquerade, error)
	ensure(m linkspec.Masquerade) error
	remove(m linkspec.Masquerade) error
}

// NAT masquerades. Its methods are those of reconcile.NAT, which is their
// contract. Those that change something may not run at the same time, in this
// process or another: the caller holds the lock that guards what is shared.
type NAT struct{}

// New returns a NAT. Nothing is opened before it is used.
func New() NAT { return NAT{} }

// Masquerades returns what is there.
func (NAT) Masquerades(of linkspec.Masquerade) (got []linkspec.Masquerade, err error) {
	err = with(of, func(b backend) (err error) {
		got, err = b.observe(of)
		return err
	})
	return got, err
}

// Masquerade adds what is missing.
func (NAT) Masquerade(m linkspec.Masquerade) error {
	return with(m, func(b backend) error { return b.ensure(m) })
}

// Unmasquerade removes all of m's holder.
func (NAT) Unmasquerade(m linkspec.Masquerade) error {
	return with(m, func(b backend) error { return b.remove(m) })
}

func with(m linkspec.Masquerade, act func(backend) error) error {
	var err error
	switch m.Backend {
	case linkspec.NFTables:
		err = withTable(func(t *table) error { return act(t) })
	case linkspec.IPTables:
		err = act(chains{})
	default:
		err = fmt.Errorf("no such backend")
	}
	if err != nil {
		return fmt.Errorf("masquerade by %s: %w", m.Backend, err)
	}
	return nil
}
