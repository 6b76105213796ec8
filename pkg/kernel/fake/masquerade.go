package fake

import (
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Masquerades returns what is there.
func (k *Kernel) Masquerades(of linkspec.Masquerade) ([]linkspec.Masquerade, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var got []linkspec.Masquerade
	for _, m := range k.masquerades {
		if m.Backend != of.Backend || m.Network != of.Network || of.ContainerID != "" && of.ContainerID != m.ContainerID {
			continue
		}
		m.Sources = slices.DeleteFunc(slices.Clone(of.Sources), func(p netip.Prefix) bool {
			return !slices.Contains(m.Sources, p) || of.Backend == linkspec.IPTables && of.ContainerID == ""
		})
		got = append(got, m)
	}
	return got, nil
}

// Masquerade adds the sources.
func (k *Kernel) Masquerade(m linkspec.Masquerade) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.masquerades, m.SameHolder)
	if i < 0 {
		i = len(k.masquerades)
		k.masquerades = append(k.masquerades, linkspec.Masquerade{Backend: m.Backend, Network: m.Network, ContainerID: m.ContainerID})
	}
	for _, p := range m.Sources {
		if !slices.Contains(k.masquerades[i].Sources, p) {
			k.masquerades[i].Sources = append(k.masquerades[i].Sources, p)
		}
	}
	return nil
}

// Unmasquerade removes the holder.
func (k *Kernel) Unmasquerade(m linkspec.Masquerade) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.masquerades = slices.DeleteFunc(k.masquerades, m.SameHolder)
	return nil
}

// Flush forgets all masquerading, as `nft flush ruleset` makes the kernel do.
func (k *Kernel) Flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.masquerades = nil
}
