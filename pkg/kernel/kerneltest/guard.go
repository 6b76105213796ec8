package kerneltest

import (
	"net"
	"net/netip"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func testGuard(h *host) {
	h.bridge("br0")
	tap := h.tap("tap0")
	if tap.Guard != nil {
		h.t.Errorf("no port, but has a guard: %v", tap)
	}
	rules := linkspec.Guard{
		MACs:      []net.HardwareAddr{parseMAC("02:aa:00:00:00:01"), parseMAC("02:aa:00:00:00:02")},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("fd00::5/128")},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		VLANs:     []int{1, 4094}, HostAccess: linkspec.HostGateway, Via: "br0", StormLimit: 1000,
	}.Canonical()
	want := linkspec.Link{Guard: &rules}
	port := h.set(tap, linkspec.Link{Guard: &rules, Master: new("br0"), Up: new(true)})
	h.shows(port, want)
	h.shows(h.set(port, want), want)

	other := linkspec.Guard{MACs: rules.MACs[:1], L2Only: true, Isolate: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Metadata: true}.Canonical()
	port = h.set(port, linkspec.Link{Guard: &other})
	h.shows(port, linkspec.Link{Guard: &other, Master: new("br0"), Up: new(true)})

	off := linkspec.Link{Guard: &linkspec.Guard{}}
	port = h.set(port, off)
	h.shows(port, off)
	h.shows(h.set(port, off), off)
}
