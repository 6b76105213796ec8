package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
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

// RemovePort deletes the port that the bridge plugin made for the attachment, and
// its upper device.
// That there is none is no error.
func RemovePort(k Kernel, a attachment.Attachment) error {
	l, err := held(k, a)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look up port: %w", err)
	}
	if err == nil && ownsPort(a, l) {
		return deletePort(k, a, l)
	}
	return deletePort(k, a)
}

// taken is the error about a name that somebody else has.
func taken(want linkspec.Link, err error) error {
	details := "if the device is not in use any more, remove it (ip link del " + want.Name + ")"
	switch {
	case want.Peer != nil:
		details += "; the other name that was to be made is " + linkspec.Key(want.Peer.Netns, want.Peer.Name)
	case want.Netns != "":
		details = "give this guest another name with CNI_ARGS TAP_NAME, or another CNI_IFNAME; or remove the device from that namespace"
	case want.Kind == linkspec.Tap:
		details += "; else give this guest another name with CNI_ARGS TAP_NAME"
	}
	return cnierr.New(cnierr.Exists, details, "create: a device of that name exists already: %w", err)
}
