package kernel

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Splicer joins a tap to the inner end of a veth pair in the same network namespace:
// pkg/datapath/splice, which is not linked into a plugin that has no use for it.
// Links are told by their indexes in the namespace of the calling thread.
type Splicer interface {
	// Install splices two links. That they are spliced already is no error.
	Install(tap, inner int) error
	// Remove takes away what Install brought. That there is nothing is no error.
	Remove(tap, inner int) error
	// Observe tells which directions are spliced, as Install does it.
	Observe(tap, inner int) (toBridge, toGuest bool, err error)

	// InstallShortcut makes a port's frames to its guest take an upper device, both
	// of the host.
	InstallShortcut(port, upper int) error
	// RemoveShortcut undoes that. That there is none is no error.
	RemoveShortcut(port int) error
	// ObserveShortcut tells whether there is one, as InstallShortcut makes it.
	ObserveShortcut(port, upper int) (bool, error)

	// Unqueue takes the queue that the kernel chose off a tap, Requeue gives it back,
	// and Unqueued tells that it is off. A queue that somebody chose stays, and counts
	// as off.
	Unqueue(tap int) error
	Requeue(tap int) error
	Unqueued(tap int) (bool, error)
}

// WithSplicer makes New return a kernel that can splice. nil is none.
func WithSplicer(s Splicer) Option {
	return func(k *Kernel) { k.splicer = s }
}

// spliceOf returns the name of what a tap is spliced to in both directions; nil
// where this program cannot tell.
func (k *Kernel) spliceOf(tap linkspec.Link) (*string, error) {
	if k.splicer == nil {
		return nil, nil
	}
	name := ""
	err := k.eachInner(tap, func(inner linkspec.Link, toBridge, toGuest bool) error {
		if toBridge && toGuest {
			name = inner.Name
		}
		return nil
	})
	return &name, err
}

// eachInner tells how the tap is joined to each inner end that is in its namespace.
func (k *Kernel) eachInner(tap linkspec.Link, each func(inner linkspec.Link, toBridge, toGuest bool) error) error {
	links, err := k.list(newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).u32(unix.IFLA_EXT_MASK, extSkipStats))
	if err != nil {
		return wrap("list links", err)
	}
	for _, l := range links {
		if l.Kind != linkspec.Veth || !strings.HasPrefix(l.Name, attachment.InnerPrefix) {
			continue
		}
		err := k.run(func() error {
			toBridge, toGuest, err := k.splicer.Observe(tap.Index, l.Index)
			if err != nil {
				return err
			}
			return each(l, toBridge, toGuest)
		})
		if err != nil && !errors.Is(err, unix.ENODEV) { // it may be gone since
			return fmt.Errorf("look at splice of %s and %s: %w", tap.Name, l.Name, err)
		}
	}
	return nil
}

func (k *Kernel) setSplice(l, change linkspec.Link) error {
	switch {
	case change.Splice == nil:
		return nil
	case k.thread == nil:
		return cnierr.New(cnierr.Config, "make the tap a port of its bridge", "a tap in the host's own network namespace is not spliced")
	case k.splicer == nil:
		return wrap("splice", errors.ErrUnsupported)
	case *change.Splice == "":
		return k.eachInner(l, func(inner linkspec.Link, toBridge, toGuest bool) error {
			if toBridge || toGuest {
				return k.splicer.Remove(l.Index, inner.Index)
			}
			return nil
		})
	}
	inner, err := k.indexOf(*change.Splice)
	if err != nil {
		return wrap("splice", err)
	}
	return wrap("splice to "+*change.Splice, k.run(func() error { return k.splicer.Install(l.Index, inner) }))
}
