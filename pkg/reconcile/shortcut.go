package reconcile

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// deletePort deletes a port of our own, if it is there, and the attachment's upper
// device, at once.
func deletePort(k Kernel, a attachment.Attachment, port ...linkspec.Link) error {
	links := port
	upper, err := k.Link(a.UpperName())
	switch tag, ok := attachment.TagOf(upper.Alias); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return errors.Join(fmt.Errorf("look up %s: %w", a.UpperName(), err), k.Delete(port...))
	case ok && upper.Kind == linkspec.Upper && tag.Names(a):
		links = append(links, upper)
	}
	if len(links) == 0 {
		return nil
	}
	if err := k.Delete(links...); err != nil {
		return fmt.Errorf("delete port %s: %w", a.PortName(), err)
	}
	return nil
}

// isDevice tells whether links of the kind are made to serve a port.
func isDevice(kind linkspec.Kind) bool { return kind == linkspec.IFB || kind == linkspec.Upper }
