package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// belongs tells whether the link that goes by the declared name is the one that was
// declared: by now somebody else's may have the name, or the path of the namespace
// may lead to another one.
func belongs(k Kernel, a attachment.Attachment, want, got linkspec.Link) (bool, error) {
	switch {
	case len(want.AltNames) > 0:
		return carriesAny(want, got) || marked(a, want, got), nil
	case want.Role == linkspec.Shared && want.Alias != nil: // a gateway: its name is anybody's
		return got.Alias != nil && *got.Alias == *want.Alias, nil
	case want.Splice != nil:
		return spliceable(k, a, want, got)
	}
	return true, nil // by a name that is derived, or shared
}

// leave tells why a link is nothing for a repair; nil if it is. There is no code of its
// own to it: what differs is still that the link is not as promised.
func leave(k Kernel, a attachment.Attachment, want, got linkspec.Link) error {
	switch ours, err := belongs(k, a, want, got); {
	case err != nil:
		return err
	case !ours:
		return fmt.Errorf("%s: what has the name is somebody else's device, and left as it is", want.Key())
	case isPort(want) && joins(want, got) && !carriesAny(want, got):
		return fmt.Errorf("%s: it is on another bridge or none, without the handle %s, as DEL leaves it, and left so", want.Key(), want.AltNames[0])
	case isPort(want) && bridgeUnder(got) == "" && !*got.Up && joins(want, got):
		return fmt.Errorf("%s: it is on no bridge and down, as a DEL leaves it that goes on, and left so", want.Key())
	}
	return nil
}

// isPort tells whether the declared link is the attachment's port.
func isPort(want linkspec.Link) bool {
	return want.Role == linkspec.Adopted && len(want.AltNames) > 0 && bridgeUnder(want) != ""
}

// portLeft tells of the port of a state, if it has one, whether it is gone or nothing
// for a repair, so that what serves it is not either, and why.
func portLeft(k Kernel, a attachment.Attachment, s linkspec.State) (left bool, err error) {
	i := slices.IndexFunc(s.Links, isPort)
	if i < 0 {
		return false, nil
	}
	want := s.Links[i]
	got, err := k.LinkIn(want.Netns, want.Name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && want.Kind != "" && got.Kind != want.Kind {
		return true, nil
	}
	if err == nil {
		err = leave(k, a, want, got)
	}
	return err != nil, err
}

// carriesAny tells whether the link has one of the declared handles.
func carriesAny(want, got linkspec.Link) bool {
	return slices.ContainsFunc(want.AltNames, func(name string) bool { return slices.Contains(got.AltNames, name) })
}

// marked tells of a link without the declared handle whether something else says
// that it is the attachment's: its tag, or, of what is only joined, the handle of
// whoever made it.
func marked(a attachment.Attachment, want, got linkspec.Link) bool {
	if want.Role == linkspec.Owned {
		tag, ok := attachment.TagOf(got.Alias)
		return ok && tag.Names(a)
	}
	return owns(a, got) || ownsPort(a, got)
}

// spliceable tells whether a tap in another namespace is the one that the port was
// made for. One that somebody else made has no mark of ours but what it is spliced
// to; it is known by the inner end beside it, if it is no other attachment's.
func spliceable(k Kernel, a attachment.Attachment, want, got linkspec.Link) (bool, error) {
	if owns(a, got) || got.Splice != nil && *got.Splice == *want.Splice {
		return true, nil
	}
	_, tagged := attachment.TagOf(got.Alias)
	if tagged || slices.ContainsFunc(got.AltNames, attachment.IsTapHandle) {
		return false, nil
	}
	_, err := k.LinkIn(want.Netns, *want.Splice)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up %s: %w", linkspec.Key(want.Netns, *want.Splice), err)
	}
	return true, nil
}
