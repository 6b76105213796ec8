package kerneltest

import (
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func sources(texts ...string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, s := range texts {
		prefixes = append(prefixes, netip.MustParsePrefix(s))
	}
	return prefixes
}

// holders are masquerading of each backend, in two families.
func holders() []linkspec.Masquerade {
	return []linkspec.Masquerade{
		{Backend: linkspec.NFTables, Network: "lab", Sources: sources("10.1.0.0/16", "10.2.3.0/26", "10.2.4.4/32", "fd00:1::/64", "fd00:2::/61")},
		{Backend: linkspec.IPTables, Network: "lab", ContainerID: "vm1", Sources: sources("10.1.0.2/16", "fd00:1::2/64")},
	}
}

// masquerades fails the test unless just these sources of m are masqueraded,
// and m's holder is there, or not.
func (h *host) masquerades(m linkspec.Masquerade, there bool, want ...netip.Prefix) {
	h.t.Helper()
	got, err := h.Masquerades(m)
	h.must(err)
	if !there {
		if len(got) != 0 {
			h.t.Errorf("there is:\n%v", got)
		}
		return
	}
	if len(got) != 1 || !got[0].SameHolder(m) || !slices.Equal(got[0].Sources, want) {
		h.t.Errorf("there is:\n%v\nwant, of\n%v just %v", got, m, want)
	}
}

func testMasquerade(h *host) {
	for _, m := range holders() {
		h.masquerades(m, false)
		h.must(h.Unmasquerade(m))
		for range 2 { // the second changes nothing
			h.must(h.Masquerade(m))
			h.masquerades(m, true, m.Sources...)
		}
		more := m
		more.Sources = sources("10.77.0.9/32")
		h.masquerades(more, true)
		h.must(h.Masquerade(more))
		h.masquerades(m, true, m.Sources...)
		h.masquerades(more, true, more.Sources...)
		for range 2 {
			h.must(h.Unmasquerade(linkspec.Masquerade{Backend: m.Backend, Network: m.Network, ContainerID: m.ContainerID}))
			h.masquerades(m, false)
			h.masquerades(more, false)
		}
	}
}

func testMasqueradeHolders(h *host) {
	for _, m := range holders() {
		other := m
		other.Network = "side"
		h.must(h.Masquerade(m))
		h.masquerades(other, false)
		h.must(h.Masquerade(other))
		h.must(h.Unmasquerade(m))
		h.masquerades(m, false)
		h.masquerades(other, true, other.Sources...)
		h.must(h.Unmasquerade(other))
	}
}

func testMasqueradeContainers(h *host) {
	one := holders()[1]
	two := one
	two.ContainerID, two.Sources = "vm2", sources("10.1.0.3/16")
	h.must(h.Masquerade(one))
	h.must(h.Masquerade(two))
	all, err := h.Masquerades(linkspec.Masquerade{Backend: linkspec.IPTables, Network: "lab"})
	h.must(err)
	var ids []string
	for _, m := range all {
		ids = append(ids, m.ContainerID)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"vm1", "vm2"}) {
		h.t.Errorf("holders are %q", ids)
	}
	h.must(h.Unmasquerade(one))
	h.masquerades(one, false)
	h.masquerades(two, true, two.Sources...)
	h.must(h.Unmasquerade(two))
}
