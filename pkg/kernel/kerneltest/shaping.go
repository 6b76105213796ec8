package kerneltest

import (
	"errors"
	"io/fs"
	"net/netip"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// shapings are limits of each shape.
func shapings() []linkspec.Shaping {
	slow, fast := linkspec.Limit{Rate: 1e6}, linkspec.Limit{Rate: 1e9, Burst: 1e7}
	subnets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	return []linkspec.Shaping{
		{Limits: linkspec.Limits{ToGuest: slow}},
		{Limits: linkspec.Limits{FromGuest: slow}, FromGuestVia: "ifb-from"},
		{Limits: linkspec.Limits{ToGuest: fast, FromGuest: slow}, FromGuestVia: "ifb-from"},
		{Limits: linkspec.Limits{ToGuest: slow, FromGuest: fast, ShapedSubnets: subnets}, ToGuestVia: "ifb-to", FromGuestVia: "ifb-from"},
		{Limits: linkspec.Limits{ToGuest: slow, UnshapedSubnets: subnets[:1]}, ToGuestVia: "ifb-to"},
	}
}

func (h *host) ifb(name string) linkspec.Link {
	h.t.Helper()
	return h.create(linkspec.Link{Kind: linkspec.IFB, Name: name, Alias: new("tag of " + name)})
}

// limited fails the test unless the port is limited so.
func (h *host) limited(port linkspec.Link, of linkspec.Shaping, want linkspec.Limits) {
	h.t.Helper()
	got, err := h.Shaping(port, of)
	h.must(err)
	if !got.Equal(want) || got.ToGuestVia != of.ToGuestVia || got.FromGuestVia != of.FromGuestVia {
		h.t.Errorf("limits are %+v\nwant %+v", got, want)
	}
}

func testCreateIFB(h *host) {
	h.shows(h.ifb("ifb-from"), linkspec.Link{Kind: linkspec.IFB, Alias: new("tag of ifb-from"), Up: new(false)})
}

func testShaping(h *host) {
	h.bridge("br0")
	h.ifb("ifb-to")
	h.ifb("ifb-from")
	for _, s := range shapings() {
		port := h.port("tap0", "br0")
		h.limited(port, s, linkspec.Limits{})
		for range 2 { // the second changes nothing
			port = h.set(port, linkspec.Link{Shaping: &s})
			h.limited(port, s, s.Canonical())
		}
		if port.Shaping != nil {
			h.t.Error("Link tells of limits")
		}
		if atRoot := s.ToGuest.Rate > 0 && s.ToGuestVia == ""; atRoot != port.Shaped {
			h.t.Errorf("%+v: a token bucket at the root is %t", s, port.Shaped)
		}
		h.must(h.Delete(port))
	}
}

func testShapingAgain(h *host) {
	port := h.tap("tap0")
	h.ifb("ifb-to")
	h.ifb("ifb-from")
	for _, s := range shapings() {
		port = h.set(port, linkspec.Link{Shaping: &s})
		h.limited(port, s, s.Canonical())
	}
	all := linkspec.Shaping{ToGuestVia: "ifb-to", FromGuestVia: "ifb-from"}
	for range 2 {
		port = h.set(port, linkspec.Link{Shaping: &linkspec.Shaping{}})
		h.limited(port, all, linkspec.Limits{})
	}
}

func testShapingDevices(h *host) {
	both := shapings()[2]
	port := h.tap("tap0")
	device := h.ifb("ifb-from")
	h.ifb("other")
	h.set(port, linkspec.Link{Shaping: &both})
	wrong := both
	wrong.FromGuestVia = "other"
	h.limited(port, wrong, linkspec.Limits{ToGuest: both.Canonical().ToGuest})
	h.must(h.Delete(device))
	h.limited(port, both, linkspec.Limits{ToGuest: both.Canonical().ToGuest})
	h.must(h.Set(port, linkspec.Link{Shaping: &linkspec.Shaping{}}))
	h.limited(port, both, linkspec.Limits{})
}

func testShapingRefused(h *host) {
	port := h.tap("tap0")
	for _, s := range shapings()[1:] {
		if err := h.Set(port, linkspec.Link{Shaping: &s}); !errors.Is(err, fs.ErrNotExist) {
			h.t.Errorf("%+v: error is %v, want fs.ErrNotExist", s, err)
		}
		h.limited(port, s, linkspec.Limits{})
	}
}
