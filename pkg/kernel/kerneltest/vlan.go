package kerneltest

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// native is the membership of a port to which nobody did anything.
func native(id int) linkspec.VLAN { return linkspec.VLAN{ID: id, PVID: true, Untagged: true} }

// filtering makes br0, a bridge that filters VLANs. On a kernel that cannot it makes
// sure that it is refused, with nothing left, and returns false.
func (h *host) filtering() bool {
	h.t.Helper()
	if h.CanFilter() == nil {
		h.create(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", VLANFiltering: new(true)})
		return true
	}
	_, err := h.Create(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", VLANFiltering: new(true)})
	if !errors.Is(err, errors.ErrUnsupported) {
		h.t.Errorf("make a bridge with VLANs: error %v, want errors.ErrUnsupported", err)
	}
	h.gone("br0")
	return false
}

func testCanFilter(h *host) {
	can := h.CanFilter()
	if can != nil && !errors.Is(can, errors.ErrUnsupported) {
		h.t.Errorf("error is %v, want errors.ErrUnsupported", can)
	}
	links, err := h.Links()
	h.must(err)
	if len(links) != 1 {
		h.t.Errorf("links are %q", names(links))
	}
	if made := h.filtering(); made != (can == nil) {
		h.t.Errorf("made: %v, but error is %v", made, can)
	}
	plain := h.bridge("br1")
	if (plain.VLANFiltering == nil) != (can != nil) || plain.VLANFiltering != nil && *plain.VLANFiltering {
		h.t.Errorf("a bridge is\n%v", plain)
	}
}

func testFiltering(h *host) {
	if !h.filtering() {
		err := h.Set(h.bridge("br1"), linkspec.Link{VLANFiltering: new(true)})
		if !errors.Is(err, errors.ErrUnsupported) {
			h.t.Errorf("switch on: error %v, want errors.ErrUnsupported", err)
		}
		return
	}
	bridge := h.link("br0")
	h.shows(bridge, linkspec.Link{VLANFiltering: new(true), VLANs: []linkspec.VLAN{native(1)}, Up: new(false)})
	if bridge.DefaultPVID != 1 {
		h.t.Errorf("default VLAN is %d", bridge.DefaultPVID)
	}
	h.shows(h.port("tap0", "br0"), linkspec.Link{VLANs: []linkspec.VLAN{native(1)}})
	off := h.set(bridge, linkspec.Link{VLANFiltering: new(false)})
	h.shows(off, linkspec.Link{VLANFiltering: new(false)})
	if off.VLANs != nil || h.link("tap0").VLANs != nil {
		h.t.Errorf("VLANs of a bridge that does not filter are %v, of its port %v", off.VLANs, h.link("tap0").VLANs)
	}
	h.shows(h.set(off, linkspec.Link{VLANFiltering: new(true)}), linkspec.Link{VLANFiltering: new(true)})
	if err := h.Set(h.tap("tap1"), linkspec.Link{VLANFiltering: new(true)}); err == nil {
		h.t.Error("a tap filters VLANs")
	}
}

// span are tagged VLANs.
func span(first, last int) []linkspec.VLAN {
	var vlans []linkspec.VLAN
	for id := first; id <= last; id++ {
		vlans = append(vlans, linkspec.VLAN{ID: id})
	}
	return vlans
}

func testVLANs(h *host) {
	if err := h.Set(h.tap("none"), linkspec.Link{VLANs: []linkspec.VLAN{native(100)}}); err == nil {
		h.t.Error("what is no port is in a VLAN")
	}
	if !h.filtering() {
		return
	}
	h.port("other", "br0")
	tap := h.tap("tap0")
	if tap.VLANs != nil {
		h.t.Errorf("no port, but in VLANs %v", tap.VLANs)
	}
	for _, vlans := range [][]linkspec.VLAN{
		{native(100)},
		{native(200)},
		{{ID: 1, Untagged: true}, native(100)},
		{{ID: 100, Untagged: true}, native(200)},
		append([]linkspec.VLAN{native(1)}, span(2, 4094)...),
		append(append(span(5, 9), native(10)), span(11, 20)...),
		append(span(7, 8), native(100)),
		{{ID: 100}},
	} {
		tap = h.set(tap, linkspec.Link{Master: new("br0"), VLANs: vlans})
		if !slices.Equal(tap.VLANs, vlans) {
			h.t.Errorf("VLANs are %v, want %v", tap.VLANs, vlans)
		}
		h.shows(h.link("other"), linkspec.Link{VLANs: []linkspec.VLAN{native(1)}})
		h.shows(h.link("br0"), linkspec.Link{VLANs: []linkspec.VLAN{native(1)}})
	}
	h.set(tap, linkspec.Link{Master: new("")})
	h.shows(h.set(tap, linkspec.Link{Master: new("br0")}), linkspec.Link{VLANs: []linkspec.VLAN{native(1)}})
}

// gateway makes a VLAN device on br0.
func (h *host) gateway(id int) linkspec.Link {
	h.t.Helper()
	return h.create(linkspec.Link{
		Kind: linkspec.VLANDevice, Name: attachment.GatewayName("br0", id), Parent: new("br0"), VLANID: &id, Alias: new(attachment.GatewayTag),
	})
}

func testLinksOfVLANs(h *host) {
	if !h.filtering() {
		return
	}
	h.port("tap0", "br0")
	h.gateway(100)
	links, err := h.Links()
	h.must(err)
	if got := names(links); !slices.Equal(got, []string{"lo", "br0", "tap0", "br0.100"}) {
		h.t.Fatalf("links are %q", got)
	}
	ports, err := h.Ports("br0")
	h.must(err)
	for _, l := range append(links, ports...) {
		want := h.link(l.Name)
		want.Addresses, want.IPv6, want.AcceptRA, want.ARPIgnore, want.Forwarding, want.VLANs, want.Carried = nil, nil, nil, nil, nil, nil, nil
		h.same(l, want, func(*linkspec.Link) {})
	}
}

func testVLANDevice(h *host) {
	if !h.filtering() {
		return
	}
	l := h.gateway(100)
	h.shows(l, linkspec.Link{
		Kind: linkspec.VLANDevice, Alias: new(attachment.GatewayTag), Up: new(false), Master: new(""), MTU: new(1500),
		Parent: new("br0"), VLANID: new(100), Carried: new(false), MAC: h.link("br0").MAC,
	})
	for _, taken := range []linkspec.Link{
		{Name: "br0.100", Parent: new("br0"), VLANID: new(101)},
		{Name: "other", Parent: new("br0"), VLANID: new(100)},
	} {
		taken.Kind = linkspec.VLANDevice
		if _, err := h.Create(taken); !errors.Is(err, fs.ErrExist) {
			h.t.Errorf("error is %v, want fs.ErrExist", err)
		}
	}
	if _, err := h.Create(linkspec.Link{Kind: linkspec.VLANDevice, Name: "x", Parent: new("none"), VLANID: new(100)}); !errors.Is(err, fs.ErrNotExist) {
		h.t.Errorf("error is %v, want fs.ErrNotExist", err)
	}
	if err := h.Set(l, linkspec.Link{VLANID: new(101)}); err == nil {
		h.t.Error("a VLAN device got another VLAN")
	}
	h.set(h.link("br0"), linkspec.Link{Up: new(true)}) // a VLAN device cannot be up before
	whole := linkspec.Link{Up: new(true), MTU: new(1400), AcceptRA: new(false), Addresses: addresses("10.0.0.1/24", "fd00::1/64")}
	h.shows(h.set(l, whole), whole)
	h.must(h.Delete(l))
	h.gone("br0.100")
	h.link("br0")
}

func testCarried(h *host) {
	if !h.filtering() {
		return
	}
	l := h.gateway(100)
	for _, on := range []bool{true, true, false, false, true} {
		l = h.set(l, linkspec.Link{Carried: &on})
		h.shows(l, linkspec.Link{Carried: &on})
		want := []linkspec.VLAN{native(1)}
		if on {
			want = append(want, linkspec.VLAN{ID: 100})
		}
		if got := h.link("br0").VLANs; !slices.Equal(got, want) {
			h.t.Errorf("bridge is in VLANs %v, want %v", got, want)
		}
	}
	first := h.gateway(1)
	h.shows(first, linkspec.Link{Carried: new(false)})
	if err := h.Set(first, linkspec.Link{Carried: new(true)}); err == nil {
		h.t.Error("the bridge's own VLAN has tags now")
	}
	h.set(first, linkspec.Link{Carried: new(false)})
	h.shows(h.link("br0"), linkspec.Link{VLANs: []linkspec.VLAN{native(1), {ID: 100}}})
	if err := h.Set(h.link("br0"), linkspec.Link{Carried: new(true)}); err == nil {
		h.t.Error("a bridge is a VLAN device")
	}
}

func testDeleteBelow(h *host) {
	if !h.filtering() {
		return
	}
	h.gateway(100)
	h.gateway(200)
	h.must(h.Delete(h.link("br0")))
	links, err := h.Links()
	h.must(err)
	if len(links) != 1 {
		h.t.Errorf("links are %q", names(links))
	}
}
