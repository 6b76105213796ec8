package kerneltest

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func testRoutes(h *host) {
	routes := func(name string, want ...netip.Prefix) {
		h.t.Helper()
		got, err := h.Routes(name)
		h.must(err)
		if !slices.Equal(got, want) {
			h.t.Errorf("routes of %s are %v, want %v", name, got, want)
		}
	}
	tap, other := h.tap("tap0"), h.tap("tap1")
	routes("tap0")
	up := linkspec.Link{Up: new(true), Addresses: []linkspec.Address{
		{Prefix: netip.MustParsePrefix("10.1.2.3/16")}, {Prefix: netip.MustParsePrefix("10.7.7.7/32")}, {Prefix: netip.MustParsePrefix("fd00:1::3/64")},
	}}
	h.set(tap, up)
	h.set(other, linkspec.Link{Up: new(true)})
	routes("tap0", sources("10.1.0.0/16", "fd00:1::/64")...)
	routes("tap1")
	if _, err := h.Routes("tap2"); !errors.Is(err, fs.ErrNotExist) {
		h.t.Errorf("routes of no link: error %v, want fs.ErrNotExist", err)
	}
}
