package kernel

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Splicer joins a tap to a device of the same network namespace, so that what
// comes in on one goes out on the other. Indexes are those of the namespace of the
// calling thread.
type Splicer interface {
	// Supported is nil if the host has what Install needs.
	Supported() error
	// Install splices two links. That they are spliced already is no error.
	Install(tap, inner int) error
	// Remove takes away what Install brought. That there is nothing is no error.
	Remove(tap int) error
	// Observe returns what the tap is spliced to: 0 if it is to nothing, or not
	// as Install does it, in both directions.
	Observe(tap int) (inner int, err error)
}

// noSplicer is the Splicer of a Kernel that was given none.
type noSplicer struct{}

func (noSplicer) Supported() error         { return errors.ErrUnsupported }
func (noSplicer) Install(int, int) error   { return errors.ErrUnsupported }
func (noSplicer) Remove(int) error         { return errors.ErrUnsupported }
func (noSplicer) Observe(int) (int, error) { return 0, errors.ErrUnsupported }

// WithSplicer makes New return a kernel that can splice. nil is none.
func WithSplicer(s Splicer) Option {
	return func(k *Kernel) {
		if s != nil {
			k.splicer = s
		}
	}
}

// spliceOf returns the name of what a tap is spliced to; nil where this program
// cannot tell.
func (k *Kernel) spliceOf(tap linkspec.Link) (*string, error) {
	var inner int
	err := k.run(func() (err error) { inner, err = k.splicer.Observe(tap.Index); return err })
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the splice of %s: %w", tap.Key(), err)
	}
	if inner == 0 {
		return new(""), nil
	}
	name, err := k.nameOf(inner)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be gone since
		return nil, fmt.Errorf("look at the splice of %s: %w", tap.Key(), err)
	}
	return &name, nil
}

func (k *Kernel) setSplice(l, change linkspec.Link) error {
	if change.Splice == nil {
		return nil
	}
	if k.thread == nil {
		return cnierr.New(cnierr.Config, "make the tap a port of its bridge instead", "a tap in the host's own network namespace is not spliced")
	}
	if *change.Splice == "" {
		return wrap("unsplice", k.run(func() error { return k.splicer.Remove(l.Index) }))
	}
	inner, err := k.indexOf(*change.Splice)
	if err != nil {
		return wrap("splice", err)
	}
	return wrap("splice to "+*change.Splice, k.run(func() error { return k.splicer.Install(l.Index, inner) }))
}
