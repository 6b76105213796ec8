// Package kernel is the real kernel, as far as the engine needs it: links,
// bridge ports, tap devices, addresses and parameters of one network namespace.
//
// It speaks route netlink over one socket that it keeps, with messages of its
// own making: a lookup of a link is one request, and nothing is listed that the
// kernel can find or filter itself.
package kernel

import (
	"errors"
	"fmt"
	"sync"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// LockDir is the directory whose lock keeps processes of this software from
// changing at the same time what attachments share.
const LockDir = "/run/microvm-cni"

// Kernel is the kernel's view of one network namespace. It may be used by
// threads of that namespace only: taps and parameters are those of the thread.
type Kernel struct {
	NAT
	shaper  Shaper
	conn    *conn
	splicer Splicer // nil for none
	guards  Guards  // nil for none
	away            // where else there are links of ours
	lockDir string
	waits   sync.WaitGroup // for the lock, those that were given up, too
}

// NAT is how the kernel is told to masquerade: pkg/nat, which is not linked into
// a plugin that has no use for it.
type NAT interface {
	Masquerades(of linkspec.Masquerade) ([]linkspec.Masquerade, error)
	Masquerade(m linkspec.Masquerade) error
	Unmasquerade(m linkspec.Masquerade) error
}

// noNAT is the NAT of a Kernel that was given none.
type noNAT struct{}

func (noNAT) Masquerades(linkspec.Masquerade) ([]linkspec.Masquerade, error) {
	return nil, errors.ErrUnsupported
}
func (noNAT) Masquerade(linkspec.Masquerade) error   { return errors.ErrUnsupported }
func (noNAT) Unmasquerade(linkspec.Masquerade) error { return errors.ErrUnsupported }

// Option changes what New returns.
type Option func(*Kernel)

// WithLockDir makes Lock use another directory than LockDir.
func WithLockDir(dir string) Option {
	return func(k *Kernel) { k.lockDir = dir }
}

// WithNAT makes New return a kernel that can masquerade. nil is none.
func WithNAT(nat NAT) Option {
	return func(k *Kernel) {
		if nat != nil {
			k.NAT = nat
		}
	}
}

// New returns the kernel for the network namespace of the calling thread.
func New(options ...Option) (*Kernel, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	k := &Kernel{NAT: noNAT{}, shaper: noShaper{}, conn: c, lockDir: LockDir}
	for _, o := range options {
		o(k)
	}
	return k, nil
}

// Close releases what New holds, once every wait for the lock has come to its
// end. A process that ends need not call it.
func (k *Kernel) Close() error {
	k.waits.Wait()
	return errors.Join(k.leave(), wrap("close netlink socket", k.conn.close()))
}

// missing says that there is no such link, in the words of the name that was
// asked for.
func missing(name string, err error) error {
	return fmt.Errorf("link %s: %w", name, err)
}
