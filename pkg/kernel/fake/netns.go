package fake

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// AddNetns makes a network namespace, to be found at that path.
func (k *Kernel) AddNetns(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.netns = append(k.netns, path)
}

// RemoveNetns deletes a network namespace, with all links that are in it, and
// those whose peers are.
func (k *Kernel) RemoveNetns(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.netns = slices.DeleteFunc(k.netns, func(p string) bool { return p == path })
	for _, n := range k.links {
		if n.Netns == path {
			k.remove(n)
		}
	}
}

// enter is nil if there is a namespace at that path.
func (k *Kernel) enter(path string) error {
	if path == "" || slices.Contains(k.netns, path) {
		return nil
	}
	return fmt.Errorf("network namespace %s: %w", path, fs.ErrNotExist)
}

// LinkIn returns the link of that namespace that has the name.
func (k *Kernel) LinkIn(netns, name string) (linkspec.Link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, err := k.findIn(netns, name)
	if err != nil {
		return linkspec.Link{}, err
	}
	return n.observe(), nil
}

// findIn returns the link of that namespace that has the name, or the
// alternative name.
func (k *Kernel) findIn(netns, name string) (*link, error) {
	if err := k.enter(netns); err != nil {
		return nil, err
	}
	for _, n := range k.links {
		if n.Netns == netns && (n.Name == name || slices.Contains(n.AltNames, name)) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("link %s: %w", linkspec.Key(netns, name), fs.ErrNotExist)
}

// addVeth makes both ends of a pair.
func (k *Kernel) addVeth(l linkspec.Link) (*link, error) {
	if l.Peer == nil {
		return nil, errors.New("no place for the other end is declared")
	}
	if _, err := k.findIn(l.Peer.Netns, l.Peer.Name); err == nil {
		return nil, fmt.Errorf("create %s: %w", linkspec.Key(l.Peer.Netns, l.Peer.Name), fs.ErrExist)
	}
	if err := k.enter(l.Peer.Netns); err != nil {
		return nil, err
	}
	n, peer := k.add(l.Name, linkspec.Veth), k.add(l.Peer.Name, linkspec.Veth)
	n.Netns, peer.Netns = l.Netns, l.Peer.Netns
	n.peer, peer.peer = peer, n
	if l.MAC != nil {
		n.MAC = slices.Clone(l.MAC)
	}
	return n, nil
}

// setSplice joins a tap to a link of its namespace, and undoes that.
func (k *Kernel) setSplice(n *link, change linkspec.Link) error {
	switch {
	case change.Splice == nil:
		return nil
	case n.Netns == "":
		return errors.New("a tap in the host's own network namespace is not spliced")
	case *change.Splice == "":
		n.splice = nil
		return nil
	}
	inner, err := k.findIn(n.Netns, *change.Splice)
	n.splice = inner
	return err
}
