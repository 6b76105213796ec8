package kerneltest

import (
	"net"
	"net/netip"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// guarded fails the test if something else guards the link.
func (h *host) guarded(l linkspec.Link, want linkspec.Guard) {
	h.t.Helper()
	g, err := h.Guard(l)
	h.must(err)
	l.Guard = &g
	h.shows(l, linkspec.Link{Guard: &want})
}

func testGuard(h *host) {
	h.bridge("br0")
	tap := h.tap("tap0")
	off := linkspec.Guard{}
	h.guarded(tap, off)
	rules := linkspec.Guard{
		MACs:      []net.HardwareAddr{parseMAC("02:aa:00:00:00:01"), parseMAC("02:aa:00:00:00:02")},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("fd00::5/128")},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		VLANs:     []int{1, 4094}, HostAccess: linkspec.HostGateway, Via: "br0", StormLimit: 1000, GroupLimit: 128,
	}.Canonical()
	port := h.set(tap, linkspec.Link{Guard: &rules, Master: new("br0"), Up: new(true)})
	h.guarded(port, rules)
	h.guarded(h.set(port, linkspec.Link{Guard: &rules}), rules)

	other := linkspec.Guard{MACs: rules.MACs[:1], L2Only: true, Isolate: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, ReachMetadata: true}.Canonical()
	port = h.set(port, linkspec.Link{Guard: &other})
	h.guarded(port, other)
	h.shows(port, linkspec.Link{Master: new("br0"), Up: new(true)})

	for range 2 {
		port = h.set(port, linkspec.Link{Guard: &off})
		h.guarded(port, off)
	}
}
