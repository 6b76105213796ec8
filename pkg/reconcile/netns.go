package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// ownsPort tells whether the link is a port that the bridge plugin made for the
// attachment: the host's end of a veth pair.
func ownsPort(a attachment.Attachment, l linkspec.Link) bool {
	if l.Kind != linkspec.Veth {
		return false
	}
	if slices.Contains(l.AltNames, a.PortHandle()) {
		return true
	}
	tag, ok := tagOf(l)
	return ok && tag.Names(a)
}

// held returns the link that carries the bridge plugin's handle for the
// attachment, or the port that it was about to be put on.
func held(k Kernel, a attachment.Attachment) (linkspec.Link, error) {
	l, err := k.Link(a.PortHandle())
	if !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	return find(k, "", []string{a.PortName()}, func(l linkspec.Link) bool { return ownsPort(a, l) })
}

func deletePort(k Kernel, l linkspec.Link) error {
	if err := k.Delete(l); err != nil {
		return fmt.Errorf("delete port %s: %w", l.Name, err)
	}
	return nil
}

// RemoveIn deletes the attachment's own tap, wherever it is: on the host, or else
// in the network namespace of that path, "" for none. That there is no tap, or no
// such namespace, is no error. Somebody else's tap stays.
func RemoveIn(k Kernel, netns string, a attachment.Attachment, names ...string) error {
	places := []string{""}
	if netns != "" {
		places = append(places, netns)
	}
	for _, place := range places {
		l, err := ownedIn(k, place, a, names...)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := k.Delete(l); err != nil {
			return fmt.Errorf("delete %s: %w", l.Key(), err)
		}
		return nil
	}
	return nil
}

// RemovePort deletes the port that the bridge plugin made for the attachment.
// That there is none is no error.
func RemovePort(k Kernel, a attachment.Attachment) error {
	l, err := held(k, a)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !ownsPort(a, l) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up port: %w", err)
	}
	return deletePort(k, l)
}
