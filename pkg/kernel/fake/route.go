package fake

import (
	"net/netip"
	"slices"
)

// AddRoute makes the link a way to the destination, as an administrator would.
func (k *Kernel) AddRoute(name string, to netip.Prefix) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, err := k.find(name)
	if err != nil {
		panic("fake: add route: no such link as " + name)
	}
	n.routes = append(n.routes, to)
}

// Routes returns what AddRoute added, and the subnets of the addresses of a link
// that is up.
func (k *Kernel) Routes(name string) ([]netip.Prefix, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, err := k.find(name)
	if err != nil {
		return nil, err
	}
	routes := slices.Clone(n.routes)
	for _, a := range n.Addresses {
		if *n.Up && !a.Prefix.IsSingleIP() && !a.Prefix.Addr().IsLinkLocalUnicast() {
			routes = append(routes, a.Prefix.Masked())
		}
	}
	return routes, nil
}
