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
	tag, ok := attachment.TagOf(l.Alias)
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

// Unsplice takes off a tap in the network namespace of that path, "" for none, what
// joined it to the port of the attachment, and returns a step that gives it back to
// whoever made it, down, once the port is gone: from a tap that is down the kernel
// would not take back what it did for the upper device. The attachment's own tap is
// not looked at, for it will be deleted, and neither is one that is joined to
// something else.
func Unsplice(k Kernel, netns string, a attachment.Attachment, names ...string) (giveBack func() error, err error) {
	nothing := func() error { return nil }
	if netns == "" {
		return nothing, nil
	}
	tap, err := find(k, netns, names, func(l linkspec.Link) bool {
		return l.Kind == linkspec.Tap && l.Splice != nil && *l.Splice == a.InnerName() && !owns(a, l)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nothing, nil
	}
	if err != nil {
		return nothing, err
	}
	set := func(change linkspec.Link) error {
		err := k.Set(tap, change)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("release %s: %w", tap.Key(), err)
		}
		return nil
	}
	return func() error { return set(linkspec.Link{Up: new(false)}) }, set(linkspec.Link{Splice: new(""), Unqueued: new(false)})
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
func taken(k Kernel, want linkspec.Link, err error) error {
	at := want.Key()
	if want.Peer != nil { // the other end may be the one
		if _, lookup := k.LinkIn(want.Netns, want.Name); errors.Is(lookup, fs.ErrNotExist) {
			want = linkspec.Link{Kind: want.Kind, Name: want.Peer.Name, Netns: want.Peer.Netns}
			at = want.Key()
		}
	}
	whose := ""
	if there, lookup := k.LinkIn(want.Netns, want.Name); lookup == nil {
		if tag, ok := attachment.TagOf(there.Alias); ok {
			whose = ", of container " + tag.ContainerID + " on network " + tag.Network
		}
	}
	details := "if the device is not in use any more, remove it (ip link del " + want.Name + ")"
	switch {
	case want.Netns != "" && want.Kind == linkspec.Tap:
		details = "give this guest another name with CNI_ARGS TAP_NAME, or another CNI_IFNAME; or remove the device from that namespace"
	case want.Netns != "":
		details = "if the device is not in use any more, remove it from that namespace (nsenter --net=" + want.Netns + " ip link del " + want.Name + ")"
	case want.Kind == linkspec.Tap:
		details += "; else give this guest another name with CNI_ARGS TAP_NAME"
	}
	return cnierr.New(cnierr.Exists, details, "create: a device %s exists already%s: %w", at, whose, err)
}
