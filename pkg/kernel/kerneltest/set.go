package kerneltest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func addresses(prefixes ...string) []linkspec.Address {
	var addrs []linkspec.Address
	for _, p := range prefixes {
		addrs = append(addrs, linkspec.Address{Prefix: netip.MustParsePrefix(p), NoDAD: true})
	}
	return addrs
}

// changes set one field each, and clear it in a link that is compared. They
// follow upon one another.
var changes = []struct {
	set   linkspec.Link
	clear func(*linkspec.Link)
}{
	{linkspec.Link{Alias: new("an alias")}, func(l *linkspec.Link) { l.Alias = nil }},
	{linkspec.Link{Alias: new("")}, func(l *linkspec.Link) { l.Alias = nil }},
	{linkspec.Link{Alias: new(strings.Repeat("x", 255))}, func(l *linkspec.Link) { l.Alias = nil }},
	{linkspec.Link{AltNames: []string{longName, "short"}}, func(l *linkspec.Link) { l.AltNames = nil }},
	{linkspec.Link{NoAltNames: []string{longName, "short"}}, func(l *linkspec.Link) { l.AltNames = nil }},
	{linkspec.Link{MAC: parseMAC("fe:01:02:03:04:05")}, func(l *linkspec.Link) { l.MAC = nil }},
	{linkspec.Link{MTU: new(1400)}, func(l *linkspec.Link) { l.MTU = nil }},
	{linkspec.Link{MTU: new(9000)}, func(l *linkspec.Link) { l.MTU = nil }},
	{linkspec.Link{TxQueueLen: new(7)}, func(l *linkspec.Link) { l.TxQueueLen = nil }},
	{linkspec.Link{Promisc: new(true)}, func(l *linkspec.Link) { l.Promisc = nil }},
	{linkspec.Link{Promisc: new(false)}, func(l *linkspec.Link) { l.Promisc = nil }},
	{linkspec.Link{IPv6: new(false)}, func(l *linkspec.Link) { l.IPv6, l.Addresses = nil, nil }},
	{linkspec.Link{IPv6: new(true)}, func(l *linkspec.Link) { l.IPv6, l.Addresses = nil, nil }},
	{linkspec.Link{AcceptRA: new(false)}, func(l *linkspec.Link) { l.AcceptRA = nil }},
	{linkspec.Link{AcceptRA: new(true)}, func(l *linkspec.Link) { l.AcceptRA = nil }},
	{linkspec.Link{ARPIgnore: new(true)}, func(l *linkspec.Link) { l.ARPIgnore = nil }},
	{linkspec.Link{ARPIgnore: new(false)}, func(l *linkspec.Link) { l.ARPIgnore = nil }},
	{linkspec.Link{Forwarding: new(true)}, func(l *linkspec.Link) { l.Forwarding = nil }},
	{linkspec.Link{Forwarding: new(false)}, func(l *linkspec.Link) { l.Forwarding = nil }},
	{linkspec.Link{Addresses: addresses("10.0.0.1/24", "fd00::1/64")}, func(l *linkspec.Link) { l.Addresses = nil }},
	{
		linkspec.Link{NoAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}},
		func(l *linkspec.Link) { l.Addresses = nil },
	},
	// Up gives a device an address of its own, and down takes it away again.
	{linkspec.Link{Up: new(true)}, func(l *linkspec.Link) { l.Up, l.Addresses = nil, nil }},
	{linkspec.Link{Up: new(false)}, func(l *linkspec.Link) { l.Up, l.Addresses = nil, nil }},
}

func testSetEach(h *host) {
	h.tap("tap0")
	h.bridge("br0")
	for _, name := range []string{"tap0", "br0"} {
		for _, c := range changes {
			before := h.link(name)
			after := h.set(before, c.set)
			h.shows(after, c.set)
			h.same(after, before, c.clear)
		}
	}
}

func testPortFlags(h *host) {
	h.bridge("br0")
	tap := h.tap("tap0")
	if tap.Hairpin != nil || tap.Isolated != nil {
		h.t.Errorf("no port, but has port flags:\n%v", tap)
	}
	port := h.set(tap, linkspec.Link{Master: new("br0"), Hairpin: new(true), Isolated: new(true), Up: new(true)})
	h.shows(port, linkspec.Link{Master: new("br0"), Hairpin: new(true), Isolated: new(true), Up: new(true)})
	port = h.set(port, linkspec.Link{Hairpin: new(false)})
	h.shows(port, linkspec.Link{Hairpin: new(false), Isolated: new(true)})
	port = h.set(port, linkspec.Link{Isolated: new(false)})
	h.shows(port, linkspec.Link{Hairpin: new(false), Isolated: new(false)})
	h.shows(port, linkspec.Link{
		Learning: new(true), UnicastFlood: new(true), BroadFlood: new(true), McastFlood: new(true), BPDUGuard: new(false), RootBlock: new(false),
		McastRouter: new(true), ProxyARP: new(false), Locked: new(false),
	})
	hard := linkspec.Link{
		Learning: new(false), UnicastFlood: new(false), BroadFlood: new(false), McastFlood: new(false), BPDUGuard: new(true), RootBlock: new(true),
		McastRouter: new(false), ProxyARP: new(true), Locked: new(true),
	}
	h.shows(h.set(port, hard), hard)
}

func testStations(h *host) {
	first, second := parseMAC("02:aa:00:00:00:01"), parseMAC("02:aa:00:00:00:02")
	h.bridge("br0")
	port, other := h.port("tap0", "br0"), h.port("tap1", "br0")
	bound := linkspec.Link{Learning: new(false), Stations: []net.HardwareAddr{first, second}}
	port = h.set(port, bound)
	h.shows(port, bound)
	h.shows(h.set(port, bound), bound)
	h.holder("br0", first, "tap0")

	for _, taken := range []net.HardwareAddr{first, port.MAC, h.link("br0").MAC} {
		if err := h.Set(other, linkspec.Link{Stations: []net.HardwareAddr{taken}}); !errors.Is(err, fs.ErrExist) {
			h.t.Errorf("bind %s, which another device has: error %v, want fs.ErrExist", taken, err)
		}
	}
	h.shows(h.link("tap0"), bound)

	port = h.set(port, linkspec.Link{NoStations: []net.HardwareAddr{first, parseMAC("02:aa:00:00:00:03")}})
	h.shows(port, linkspec.Link{NoStations: []net.HardwareAddr{first}, Stations: []net.HardwareAddr{second}})
	h.holder("br0", first, "")
	moved := linkspec.Link{Learning: new(false), Stations: []net.HardwareAddr{first}}
	h.shows(h.set(other, moved), moved)
	h.set(other, linkspec.Link{NoStations: moved.Stations})
	port = h.set(port, bound)

	learns := linkspec.Link{Learning: new(true), BPDUGuard: new(true), Stations: bound.Stations}
	port = h.set(port, learns)
	h.shows(port, learns)

	left := h.set(port, linkspec.Link{Master: new("")})
	if left.Stations != nil || left.Learning != nil {
		h.t.Errorf("no port any more, but still has\n%v", left)
	}
	h.holder("br0", first, "")
	if err := h.Set(left, linkspec.Link{Stations: []net.HardwareAddr{first}}); err == nil {
		h.t.Error("bound an address to what is no port")
	}
}

func testSetAgain(h *host) {
	h.bridge("br0")
	whole := linkspec.Link{
		Alias: new("alias"), AltNames: []string{longName}, NoAltNames: []string{"never"},
		MAC: parseMAC("fe:01:02:03:04:05"), MTU: new(1400), TxQueueLen: new(7), Promisc: new(true),
		Master: new("br0"), AcceptRA: new(false), ARPIgnore: new(true), Forwarding: new(true), Hairpin: new(true), Isolated: new(true), Up: new(true),
		Addresses: addresses("10.0.0.1/24", "fd00::1/64"), NoAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")},
	}
	first := h.set(h.tap("tap0"), whole)
	h.shows(first, whole)
	again := h.set(first, whole)
	h.shows(again, whole)
	h.same(again, first, func(l *linkspec.Link) { l.Addresses = nil })
}

func testPinMTU(h *host) {
	for _, c := range []struct {
		mtu, want int // what is set, 0 for nothing; what the bridge has with a port of 1400
	}{{0, 1400}, {1500, 1500}, {1450, 1450}, {9000, 9000}, {1280, 1280}} {
		name := fmt.Sprintf("br%d", c.mtu)
		bridge := h.bridge(name)
		if c.mtu != 0 {
			bridge = h.set(bridge, linkspec.Link{MTU: &c.mtu, Addresses: addresses("fd00::1/64")})
			h.shows(bridge, linkspec.Link{MTU: &c.mtu})
		}
		h.set(h.tap("tap"+name), linkspec.Link{MTU: new(1400), Master: &name})
		h.shows(h.link(name), linkspec.Link{MTU: &c.want})
		if c.mtu != 0 {
			h.set(h.link(name), linkspec.Link{MTU: &c.mtu})
			h.shows(h.link(name), linkspec.Link{MTU: &c.mtu, Addresses: addresses("fd00::1/64")})
		}
	}
}

func testIPv6OffAcrossMTU(h *host) {
	tap := h.set(h.tap("tap0"), linkspec.Link{MTU: new(1000)})
	h.shows(tap, linkspec.Link{IPv6: new(false), AcceptRA: new(false)})
	off := linkspec.Link{IPv6: new(false), AcceptRA: new(false), MTU: new(1500)}
	h.shows(h.set(tap, off), off)
}

func testLeave(h *host) {
	h.bridge("br0")
	h.tap("tap0")
	port := h.set(h.link("tap0"), linkspec.Link{Master: new("br0"), Up: new(true)})
	l := h.set(port, linkspec.Link{Master: new(""), Up: new(false)})
	h.shows(l, linkspec.Link{Master: new(""), Up: new(false)})
	if l.Hairpin != nil || l.Isolated != nil {
		h.t.Errorf("no port any more, but has port flags:\n%v", l)
	}
}

func testMove(h *host) {
	h.bridge("br0")
	h.bridge("br1")
	h.shows(h.set(h.port("tap0", "br0"), linkspec.Link{Master: new("br1")}), linkspec.Link{Master: new("br1")})
}

func testRemoveAddress(h *host) {
	l := h.set(h.bridge("br0"), linkspec.Link{Addresses: addresses("10.0.0.1/24", "10.0.0.2/24", "10.0.1.1/24", "fd00::1/64")})
	l = h.set(l, linkspec.Link{NoAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, Addresses: addresses("10.0.0.3/24")})
	h.shows(l, linkspec.Link{
		NoAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")},
		Addresses:   addresses("10.0.0.2/24", "10.0.0.3/24", "10.0.1.1/24", "fd00::1/64"),
	})
	if len(l.Addresses) != 4 {
		h.t.Errorf("addresses are %v", l.Addresses)
	}
}

func testReplaceAddress(h *host) {
	for _, c := range []struct{ was, is string }{{"10.0.0.1/24", "10.0.0.1/16"}, {"fd00::1/64", "fd00::1/48"}} {
		l := h.set(h.bridge("br0"), linkspec.Link{Addresses: addresses(c.was)})
		l = h.set(l, linkspec.Link{Addresses: addresses(c.is), NoAddresses: []netip.Prefix{netip.MustParsePrefix(c.was)}})
		if len(l.Addresses) != 1 || l.Addresses[0].Prefix.String() != c.is {
			h.t.Errorf("addresses are %v, want %s", l.Addresses, c.is)
		}
		h.must(h.Delete(l))
	}
}

func testNoDAD(h *host) {
	declared := addresses("10.0.0.1/24", "fd00::1/64", "fd00::2/64")
	declared[2].NoDAD = false
	for _, a := range h.set(h.bridge("br0"), linkspec.Link{Addresses: declared}).Addresses {
		if want := a.Prefix.String() == "fd00::1/64"; a.NoDAD != want {
			h.t.Errorf("%s skips duplicate address detection: %v, want %v", a.Prefix, a.NoDAD, want)
		}
	}
}

func testPrefixLength(h *host) {
	l := h.set(h.bridge("br0"), linkspec.Link{Addresses: addresses("10.0.0.1/24", "fd00::1/64")})
	if err := h.Set(l, linkspec.Link{Addresses: addresses("fd00::1/48")}); err == nil {
		h.t.Error("IPv6: no error")
	}
	h.shows(h.link("br0"), linkspec.Link{Addresses: addresses("fd00::1/64")})
	h.shows(h.set(l, linkspec.Link{Addresses: addresses("10.0.0.1/16")}), linkspec.Link{Addresses: addresses("10.0.0.1/24", "10.0.0.1/16")})
}

func testAltNameTaken(h *host) {
	tap := h.set(h.tap("tap0"), linkspec.Link{AltNames: []string{longName}})
	other := h.tap("tap1")
	for _, name := range []string{longName, "tap0", "tap1"} {
		if err := h.Set(other, linkspec.Link{AltNames: []string{name}}); !errors.Is(err, fs.ErrExist) {
			h.t.Errorf("%s: error %v, want fs.ErrExist", name, err)
		}
	}
	// A name that another link has is none that this one has.
	h.must(h.Set(other, linkspec.Link{NoAltNames: []string{longName, "tap0"}}))
	h.same(h.link(longName), tap, func(*linkspec.Link) {})
}

func testSetRefused(h *host) {
	tap := h.tap("tap0")
	for _, change := range []linkspec.Link{
		{Owner: new(uint32(1))},
		{Group: new(uint32(1))},
		{MultiQueue: new(true)},
		{MTU: new(67)},
		{MTU: new(1 << 20)},
		{MAC: parseMAC("01:00:5e:00:00:01")},
	} {
		if err := h.Set(tap, change); err == nil {
			h.t.Errorf("no error for\n%v", change)
		}
	}
	h.same(h.link("tap0"), tap, func(*linkspec.Link) {})
}

func testNoBridge(h *host) {
	h.tap("tap0")
	tap := h.tap("tap1")
	if err := h.Set(tap, linkspec.Link{Master: new("tap0")}); err == nil {
		h.t.Error("a tap became the port of a tap")
	}
	h.bridge("br0")
	if err := h.Set(h.bridge("br1"), linkspec.Link{Master: new("br0")}); err == nil {
		h.t.Error("a bridge became the port of a bridge")
	}
}

func testNoPort(h *host) {
	tap := h.tap("tap0")
	for _, change := range []linkspec.Link{{Hairpin: new(true)}, {Isolated: new(true)}, {Hairpin: new(true), Up: new(true)}} {
		if err := h.Set(tap, change); err == nil {
			h.t.Errorf("no error for\n%v", change)
		}
	}
	h.shows(h.link("tap0"), linkspec.Link{Up: new(false)})
}

func testFullBridge(h *host) {
	const ports = 1023
	h.bridge("br0")
	for i := range ports {
		h.must(h.Set(h.tap(fmt.Sprintf("tap%d", i)), linkspec.Link{Master: new("br0")}))
	}
	err := h.Set(h.tap("last"), linkspec.Link{Master: new("br0"), Up: new(true)})
	var e *cnierr.Error
	if !errors.As(err, &e) || e.Code != cnierr.TryAgain || !strings.Contains(err.Error(), "1023") || e.Details == "" {
		h.t.Errorf("error is %v, want code %d, the count and what to do", err, cnierr.TryAgain)
	}
	h.shows(h.link("last"), linkspec.Link{Master: new(""), Up: new(false)})
	list, err := h.Ports("br0")
	h.must(err)
	if len(list) != ports {
		h.t.Errorf("bridge has %d ports, want %d", len(list), ports)
	}
	h.must(h.Delete(list...))
	left, err := h.Links()
	h.must(err)
	// With so many links, kernels before 6.9 list them in no order that one would know.
	if got := slices.Sorted(slices.Values(names(left))); !slices.Equal(got, []string{"br0", "last", "lo"}) {
		h.t.Errorf("links are %q", got)
	}
}
