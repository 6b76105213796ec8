package fake

import (
	"errors"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// observeShortcut fills in what joins a tap to another namespace.
func (n *link) observeShortcut(l *linkspec.Link) {
	l.Unqueued, l.Deaf = nil, dup(l.Deaf)
	if n.Kind == linkspec.Tap && n.Netns != "" {
		l.Splice = new("")
		if n.splice != nil {
			l.Splice = new(n.splice.Name)
		}
		l.Unqueued = new(n.Unqueued != nil && *n.Unqueued)
	}
	if upper, ok := attachment.UpperOf(n.Name); ok && n.Kind == linkspec.Veth && n.Netns == "" {
		l.Shortcut = new("")
		if n.shortcut != nil && n.shortcut.Name == upper {
			l.Shortcut = &upper
		}
	}
}

// under returns the tap below an upper device.
func (k *Kernel) under(l linkspec.Link) (*link, error) {
	if l.Lower == nil {
		return nil, errors.New("no device below is declared")
	}
	return k.findIn(l.Lower.Netns, l.Lower.Name)
}

// setShortcut makes frames to a guest take an upper device, and undoes that.
func (k *Kernel) setShortcut(n *link, change linkspec.Link) error {
	if change.Unqueued != nil {
		if n.Netns == "" {
			return errors.New("a tap on the host keeps its queue")
		}
		n.Unqueued = dup(change.Unqueued)
	}
	switch {
	case change.Shortcut == nil:
		return nil
	case *change.Shortcut == "":
		n.shortcut = nil
		return nil
	}
	upper, err := k.find(*change.Shortcut)
	n.shortcut = upper
	return err
}
