package kerneltest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// longName is an alternative name that is too long for a device's own.
var longName = attachment.Attachment{Network: "lab", ContainerID: "vm1", IfName: "eth0"}.TapHandle()

func testLookup(h *host) {
	made := h.tap("tap0")
	h.set(made, linkspec.Link{AltNames: []string{longName, "short"}})
	if made.Role != linkspec.Observed || made.Kind != linkspec.Tap || made.Name != "tap0" || made.Index == 0 {
		h.t.Errorf("link is\n%v index %d", made, made.Index)
	}
	for _, name := range []string{longName, "short"} {
		if l := h.link(name); l.Name != "tap0" || l.Index != made.Index {
			h.t.Errorf("%s is link %d, %s", name, l.Index, l.Name)
		}
	}
	if lo := h.link("lo"); lo.Kind == linkspec.Tap || lo.Kind == linkspec.Bridge {
		h.t.Errorf("lo is a %s", lo.Kind)
	}
}

func testNotExist(h *host) {
	gone := h.tap("gone")
	h.must(h.Delete(gone))
	tap := h.tap("tap0")
	mac := parseMAC("02:00:00:00:00:01")
	for _, c := range []struct {
		what string
		call func() error
	}{
		{"Link", func() error { _, err := h.Link("none"); return err }},
		{"Link by a long name", func() error { _, err := h.Link(longName); return err }},
		{"Ports", func() error { _, err := h.Ports("none"); return err }},
		{"AnyPort", func() error { _, err := h.AnyPort("none", func(linkspec.Link) bool { return true }); return err }},
		{"Holder", func() error { _, err := h.Holder("none", mac); return err }},
		{"Set of a link that is gone", func() error { return h.Set(gone, linkspec.Link{Up: new(true)}) }},
		{"Set of a limit of a link that is gone", func() error { return h.Set(gone, linkspec.Link{Shaping: &linkspec.Shaping{}}) }},
		{"Set of a name that is gone", func() error { return h.Set(gone, linkspec.Link{NoAltNames: []string{longName}}) }},
		{"Set of a bridge that is not there", func() error { return h.Set(tap, linkspec.Link{Master: new("none")}) }},
		{"Sysctl", func() error { _, err := h.Sysctl("net.ipv4.none"); return err }},
		{"SetSysctl", func() error { return h.SetSysctl("net.ipv4.none", "1") }},
	} {
		if err := c.call(); !errors.Is(err, fs.ErrNotExist) {
			h.t.Errorf("%s: error %v, want fs.ErrNotExist", c.what, err)
		}
	}
}

func testLinks(h *host) {
	h.bridge("br0")
	port := h.port("tap0", "br0")
	h.set(port, linkspec.Link{AltNames: []string{longName}, Alias: new("alias"), Hairpin: new(true)})
	h.tap("tap1")
	links, err := h.Links()
	h.must(err)
	if got := names(links); !slices.Equal(got, []string{"lo", "br0", "tap0", "tap1"}) {
		h.t.Fatalf("links are %q", got)
	}
	for _, l := range links {
		want := h.link(l.Name)
		want.Addresses, want.IPv6, want.AcceptRA, want.ARPIgnore, want.Forwarding = nil, nil, nil, nil, nil
		h.same(l, want, func(*linkspec.Link) {})
	}
}

func testPorts(h *host) {
	h.bridge("br0")
	h.bridge("br1")
	h.port("tap0", "br0")
	h.port("tap1", "br1")
	h.port("tap2", "br0")
	h.tap("tap3")
	ports, err := h.Ports("br0")
	h.must(err)
	if got := names(ports); !slices.Equal(got, []string{"tap0", "tap2"}) {
		h.t.Fatalf("ports are %q", got)
	}
	for _, l := range ports {
		want := h.link(l.Name)
		want.Addresses, want.IPv6, want.AcceptRA, want.ARPIgnore, want.Forwarding = nil, nil, nil, nil, nil
		h.same(l, want, func(*linkspec.Link) {})
	}
	for name, want := range map[string]bool{"tap0": true, "tap2": true, "tap1": false, "tap3": false} {
		var got bool
		got, err = h.AnyPort("br0", func(l linkspec.Link) bool { return l.Name == name && *l.Master == "br0" })
		if err != nil || got != want {
			h.t.Errorf("AnyPort finds %s: %v, want %v, error %v", name, got, want, err)
		}
	}
	h.bridge("br2")
	found, err := h.AnyPort("br2", func(linkspec.Link) bool { return true })
	if err != nil || found {
		h.t.Errorf("a bridge without ports has any: %v, error %v", found, err)
	}
	if ports, err = h.Ports("br2"); err != nil || len(ports) != 0 {
		h.t.Errorf("a bridge without ports has %q, error %v", names(ports), err)
	}
}

func testCreateTap(h *host) {
	down := linkspec.Link{Kind: linkspec.Tap, Up: new(false), Persist: new(false), Master: new(""), Alias: new(""), MTU: new(1500)}
	for _, c := range []struct{ declare, want linkspec.Link }{
		{linkspec.Link{Name: "plain"}, linkspec.Link{Owner: new(linkspec.NoID), Group: new(linkspec.NoID), MultiQueue: new(false)}},
		{linkspec.Link{Name: "roots", Owner: new(uint32(0))}, linkspec.Link{Owner: new(uint32(0)), Group: new(linkspec.NoID)}},
		{linkspec.Link{Name: "grouped", Group: new(uint32(107))}, linkspec.Link{Owner: new(linkspec.NoID), Group: new(uint32(107))}},
		{
			linkspec.Link{Name: "anyones", Owner: new(linkspec.NoID), Group: new(linkspec.NoID)},
			linkspec.Link{Owner: new(linkspec.NoID), Group: new(linkspec.NoID)},
		},
		{
			linkspec.Link{Name: "queues", Owner: new(uint32(64055)), Group: new(uint32(107)), MultiQueue: new(true)},
			linkspec.Link{Owner: new(uint32(64055)), Group: new(uint32(107)), MultiQueue: new(true)},
		},
	} {
		c.declare.Kind = linkspec.Tap
		draft, err := h.Create(c.declare)
		h.must(err)
		l := h.link(c.declare.Name)
		h.shows(l, down)
		h.shows(l, c.want)
		h.must(draft.Keep())
		kept := h.link(c.declare.Name)
		h.shows(kept, linkspec.Link{Persist: new(true)})
		h.same(kept, l, func(l *linkspec.Link) { l.Persist = nil })
	}
}

func testCreateBridge(h *host) {
	l := h.create(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", Alias: new(attachment.BridgeTag)})
	h.shows(l, linkspec.Link{Kind: linkspec.Bridge, Alias: new(attachment.BridgeTag), Up: new(false), Master: new(""), MTU: new(1500)})
	if l.Owner != nil || l.Persist != nil || l.Hairpin != nil {
		h.t.Errorf("a bridge has fields of a tap or a port:\n%v", l)
	}
	h.shows(h.bridge("br1"), linkspec.Link{Alias: new("")})
}

func testBridgeMAC(h *host) {
	made := h.bridge("br0").MAC
	if len(made) != 6 || made[0]&3 != 2 {
		h.t.Errorf("MAC address %s is not unicast and locally administered", made)
	}
	tap := h.tap("tap0")
	h.set(tap, linkspec.Link{MAC: parseMAC("00:00:00:00:00:01"), Master: new("br0"), Up: new(true)})
	h.shows(h.link("br0"), linkspec.Link{MAC: made})
	h.must(h.Delete(tap))
	h.shows(h.link("br0"), linkspec.Link{MAC: made})
	if other := h.bridge("br1").MAC; other.String() == made.String() {
		h.t.Errorf("two bridges have MAC address %s", made)
	}
}

func testExist(h *host) {
	h.create(linkspec.Link{Kind: linkspec.Tap, Name: "tap0", Owner: new(uint32(1)), Alias: new("")})
	h.create(linkspec.Link{Kind: linkspec.Bridge, Name: "br0", Alias: new("first")})
	h.set(h.link("tap0"), linkspec.Link{AltNames: []string{"other"}})
	draft, err := h.Create(linkspec.Link{Kind: linkspec.Tap, Name: "draft"})
	h.must(err)
	before, err := h.Links()
	h.must(err)
	for _, name := range []string{"tap0", "br0", "other", "draft", "lo"} {
		for _, kind := range []linkspec.Kind{linkspec.Tap, linkspec.Bridge} {
			_, err = h.Create(linkspec.Link{Kind: kind, Name: name, Alias: new("second"), Owner: new(uint32(2))})
			if !errors.Is(err, fs.ErrExist) {
				h.t.Errorf("create %s %s: error %v, want fs.ErrExist", kind, name, err)
			}
		}
	}
	after, err := h.Links()
	h.must(err)
	if len(after) != len(before) {
		h.t.Fatalf("links are %q, were %q", names(after), names(before))
	}
	for i := range after {
		h.same(after[i], before[i], func(*linkspec.Link) {})
	}
	h.must(draft.Discard())
}

func testCreateRefused(h *host) {
	for _, kind := range []linkspec.Kind{linkspec.Tap, linkspec.Bridge} {
		for _, name := range []string{"", ".", "..", "all", "default", "tap%d", "a/b", "a:b", "a b", strings.Repeat("x", attachment.MaxName+1)} {
			if _, err := h.Create(linkspec.Link{Kind: kind, Name: name}); err == nil {
				h.t.Errorf("%s %q was made", kind, name)
			}
		}
	}
	if _, err := h.Create(linkspec.Link{Kind: "veth", Name: "veth0"}); err == nil {
		h.t.Error("a veth was made")
	}
	links, err := h.Links()
	h.must(err)
	if len(links) != 1 {
		h.t.Errorf("links are %q", names(links))
	}
}

func testDraft(h *host) {
	for _, kind := range []linkspec.Kind{linkspec.Tap, linkspec.Bridge} {
		draft, err := h.Create(linkspec.Link{Kind: kind, Name: "discarded"})
		h.must(err)
		h.link("discarded")
		h.must(draft.Discard())
		h.gone("discarded")
		h.must(draft.Discard())

		draft, err = h.Create(linkspec.Link{Kind: kind, Name: "kept"})
		h.must(err)
		h.must(draft.Keep())
		h.must(draft.Discard())
		h.must(h.Delete(h.link("kept")))

		draft, err = h.Create(linkspec.Link{Kind: kind, Name: "deleted"})
		h.must(err)
		h.must(h.Delete(h.link("deleted")))
		h.must(draft.Discard())
	}
}

func testDeleteOne(h *host) {
	tap := h.tap("tap0")
	h.bridge("br0")
	h.must(h.Delete(tap))
	h.gone("tap0")
	h.must(h.Delete(tap))
	again := h.tap("tap0")
	h.must(h.Delete(tap)) // of the first one
	if l := h.link("tap0"); l.Index != again.Index {
		h.t.Errorf("tap0 is link %d, not %d", l.Index, again.Index)
	}
	h.link("br0")
}

func testDeleteMany(h *host) {
	h.bridge("br0")
	var links []linkspec.Link
	for _, name := range []string{"tap0", "tap1", "tap2"} {
		links = append(links, h.port(name, "br0"))
	}
	h.port("other", "br0")
	h.must(h.Delete(links[1]))
	h.must(h.Delete(links...))
	left, err := h.Links()
	h.must(err)
	if got := names(left); !slices.Equal(got, []string{"lo", "br0", "other"}) {
		h.t.Errorf("links are %q", got)
	}
	h.must(h.Delete(links...))
	for _, l := range links {
		h.tap(l.Name)
	}
}

func testDeleteBridge(h *host) {
	bridge := h.bridge("br0")
	h.port("tap0", "br0")
	h.must(h.Delete(bridge))
	h.gone("br0")
	l := h.link("tap0")
	h.shows(l, linkspec.Link{Master: new("")})
	if l.Hairpin != nil || l.Isolated != nil {
		h.t.Errorf("no port any more, but has port flags:\n%v", l)
	}
}

func testDeleteNone(h *host) {
	h.tap("tap0")
	h.must(h.Delete())
	h.link("tap0")
}
