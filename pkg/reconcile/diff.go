package reconcile

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Diff returns what sets the kernel apart from the declared state.
func Diff(k Kernel, s linkspec.State) ([]linkspec.Difference, error) {
	diffs, _, err := compare(k, s)
	if err != nil {
		return nil, err
	}
	more, err := diffEntries(k, s)
	return append(diffs, more...), err
}

func compare(k Kernel, s linkspec.State) ([]linkspec.Difference, map[string]linkspec.Link, error) {
	var diffs []linkspec.Difference
	observed := map[string]linkspec.Link{}
	for _, want := range s.Links {
		got, err := look(k, want)
		if errors.Is(err, fs.ErrNotExist) {
			var d linkspec.Difference
			if d, err = absent(k, want); err != nil {
				return nil, nil, err
			}
			diffs = append(diffs, d)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", want.Key(), err)
		}
		observed[want.Key()] = got
		for _, d := range linkspec.Diff(want, got) {
			if d.Field == "fdb" && len(want.Stations) == 1 {
				if d.Got, err = whereabouts(k, want); err != nil {
					return nil, nil, err
				}
			}
			diffs = append(diffs, d)
		}
	}
	for _, c := range s.Sysctls {
		value, err := k.Sysctl(c.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("read sysctl %s: %w", c.Key, err)
		}
		if value != c.Value {
			diffs = append(diffs, linkspec.Difference{Link: "sysctl", Field: c.Key, Want: []string{c.Value}, Got: []string{value}})
		}
	}
	missing, err := diffMasquerade(k, s.Masquerade)
	if err != nil {
		return nil, nil, err
	}
	return append(diffs, missing...), observed, nil
}

// absent is the difference of a link that is not there by its name: it may have
// another one by now.
func absent(k Kernel, want linkspec.Link) (linkspec.Difference, error) {
	for _, handle := range want.AltNames {
		got, err := k.LinkIn(want.Netns, handle)
		if err == nil {
			return linkspec.Difference{Link: want.Key(), Field: "name", Want: []string{want.Name}, Got: []string{got.Name}}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return linkspec.Difference{}, fmt.Errorf("look up %s: %w", handle, err)
		}
	}
	return linkspec.Absent(want), nil
}

// whereabouts tells where the station is bound to that is not bound to its port.
func whereabouts(k Kernel, want linkspec.Link) ([]string, error) {
	if want.Master == nil {
		return nil, nil
	}
	holder, err := k.Holder(*want.Master, want.Stations[0])
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && holder == "":
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look up %s on bridge %s: %w", want.Stations[0], *want.Master, err)
	case holder == want.Name:
		return []string{"one that may move"}, nil
	}
	return []string{"at " + holder}, nil
}

// mismatch is the error that names the differences; nil if there are none.
func mismatch(diffs []linkspec.Difference) error {
	if len(diffs) == 0 {
		return nil
	}
	return Mismatch(diffs)
}

// Mismatch is the error that names the differences between what was declared
// and what there is.
func Mismatch(diffs []linkspec.Difference) *cnierr.Error {
	var msg string
	for i, d := range diffs {
		if i > 0 {
			msg += "; "
		}
		msg += d.String()
	}
	return cnierr.New(cnierr.Mismatch,
		"something else on the host changed it (a network manager, a plugin later in the chain, or a person), or the configuration or the plugins are not those of the ADD any more: stop what does it, then call CHECK with REPAIR=1 in CNI_ARGS, which puts it right under the running guest; what that cannot, such as a link that is gone, takes a DEL and an ADD",
		"%s", msg)
}

// Observe returns the links of those keys that exist.
func Observe(k Kernel, keys []string) (map[string]linkspec.Link, error) {
	links := map[string]linkspec.Link{}
	for _, key := range keys {
		at := linkspec.SplitKey(key)
		got, err := k.LinkIn(at.Netns, at.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", key, err)
		}
		links[key] = got
	}
	return links, nil
}
