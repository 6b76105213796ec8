package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Delete deletes observed links, by index, those of each namespace apart.
func (k *Kernel) Delete(links ...linkspec.Link) error {
	var errs []error
	for _, netns := range namespaces(links) {
		at, err := k.in(netns)
		switch {
		case errors.Is(err, fs.ErrNotExist): // and so are its links
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, at.delete(slices.DeleteFunc(slices.Clone(links), func(l linkspec.Link) bool { return l.Netns != netns })))
		}
	}
	return errors.Join(errs...)
}

// namespaces are those that the links are in.
func namespaces(links []linkspec.Link) []string {
	var all []string
	for _, l := range links {
		if !slices.Contains(all, l.Netns) {
			all = append(all, l.Netns)
		}
	}
	return all
}

// delete deletes links of this namespace. Several go as one device group:
// after each deletion the kernel waits for its other processors, 13 to 20 ms,
// and for a group it does so once.
func (k *Kernel) delete(links []linkspec.Link) error {
	switch len(links) {
	case 0:
		return nil
	case 1:
		return k.deleteOne(links[0])
	}
	group := randomGroup()
	var errs []error
	for _, l := range links {
		err := k.conn.do(setLink(l.Index, 0, 0).u32(unix.IFLA_GROUP, group))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("delete %s: %w", l.Name, err))
		}
	}
	if err := k.deleteGroup(group); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// One link that cannot be deleted keeps the kernel from deleting any.
		for _, l := range links {
			errs = append(errs, k.deleteOne(l))
		}
	}
	return errors.Join(errs...)
}

func (k *Kernel) deleteGroup(group uint32) error {
	return k.conn.do(newMessage(unix.RTM_DELLINK, 0, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).u32(unix.IFLA_GROUP, group))
}

func (k *Kernel) deleteOne(l linkspec.Link) error {
	err := k.conn.do(newMessage(unix.RTM_DELLINK, 0, ifinfo(unix.AF_UNSPEC, l.Index, 0, 0)...))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return wrap("delete "+l.Name, err)
}
