package fake

import (
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Guard returns the port's guard.
func (k *Kernel) Guard(port linkspec.Link) (linkspec.Guard, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.links[port.Index]
	if n == nil || n.Guard == nil {
		return linkspec.Guard{}, nil
	}
	return *n.Guard, nil
}
