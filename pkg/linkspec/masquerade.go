package linkspec

import (
	"net/netip"
	"slices"
	"strings"
)

// NATBackend is what carries out masquerading on the host.
type NATBackend string

// The backends: rules per network in a table of our own, and the chains of the
// upstream plugins.
const (
	NFTables NATBackend = "nftables"
	IPTables NATBackend = "iptables"
)

// Masquerade hides the guests of a network behind the host: packets from a
// source to anywhere else leave with the host's address. Packets within the
// source, broadcasts and multicasts keep theirs.
type Masquerade struct {
	Backend NATBackend
	Network string
	// ContainerID is whose rules they are with IPTables, which has them for each
	// container; "" with NFTables, where they are the network's.
	ContainerID string
	// Sources are subnets with NFTables; with IPTables they are the guest's
	// addresses, each with the length of its subnet's prefix.
	Sources []netip.Prefix
}

// String is the masquerading as text.
func (m Masquerade) String() string {
	var b strings.Builder
	b.WriteString("masquerade network " + m.Network)
	if m.ContainerID != "" {
		b.WriteString(" container " + m.ContainerID)
	}
	b.WriteString(" by " + string(m.Backend) + "\n")
	for _, s := range m.Sources {
		b.WriteString("    from " + s.String() + "\n")
	}
	return b.String()
}

// SameHolder tells whether both are rules of the same network or container.
func (m Masquerade) SameHolder(other Masquerade) bool {
	return m.Backend == other.Backend && m.Network == other.Network && m.ContainerID == other.ContainerID
}

// DiffMasquerade returns what sets observed masquerading apart from a declared one.
func DiffMasquerade(want Masquerade, got []Masquerade) []Difference {
	var missing []string
	for _, s := range want.Sources {
		there := slices.ContainsFunc(got, func(g Masquerade) bool {
			return g.SameHolder(want) && slices.Contains(g.Sources, s)
		})
		if !there {
			missing = append(missing, s.String())
		}
	}
	if missing == nil {
		return nil
	}
	return []Difference{{Link: want.Network, Field: masquerading, Want: missing}}
}

// masquerading is the field of a Difference of which Link is the network.
const masquerading = "masquerading"
