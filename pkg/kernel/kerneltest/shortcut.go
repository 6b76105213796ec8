package kerneltest

import (
	"errors"
	"io/fs"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// upper makes an upper device over a tap in the VMM's namespace.
func (a *away) upper(name, tap string) linkspec.Link {
	a.t.Helper()
	draft, err := a.Create(linkspec.Link{
		Kind: linkspec.Upper, Name: name, Alias: new("tag"), Lower: &linkspec.Place{Netns: a.netns, Name: tap},
	})
	a.must(err)
	a.must(draft.Keep())
	return a.link(name)
}

func testCreateUpper(a *away) {
	a.tap("tap9") // so that indexes differ
	a.tapIn("tap0")
	l := a.upper("mvs-a", "tap0")
	a.shows(l, linkspec.Link{Kind: linkspec.Upper, Alias: new("tag"), Deaf: new(true), Up: new(false)})
	a.shows(a.set(l, linkspec.Link{IPv6: new(false), Up: new(true)}), linkspec.Link{IPv6: new(false), Up: new(true)})
	if err := a.Set(l, linkspec.Link{Deaf: new(false)}); err == nil {
		a.t.Error("an upper device takes another mode")
	}
	a.must(a.Delete(a.linkIn("tap0")))
	a.gone("mvs-a")
}

func testUpperRefused(a *away) {
	a.tap("here")
	a.tapIn("tap0")
	for _, c := range []struct {
		name  string
		lower *linkspec.Place
		is    error
	}{
		{"here", &linkspec.Place{Netns: a.netns, Name: "tap0"}, fs.ErrExist},
		{"mvs-a", &linkspec.Place{Netns: a.netns, Name: "none"}, fs.ErrNotExist},
		{"mvs-a", &linkspec.Place{Netns: "/run/netns/none", Name: "tap0"}, fs.ErrNotExist},
		{"mvs-a", nil, nil},
	} {
		_, err := a.Create(linkspec.Link{Kind: linkspec.Upper, Name: c.name, Alias: new("tag"), Lower: c.lower})
		if err == nil || c.is != nil && !errors.Is(err, c.is) {
			a.t.Errorf("%s over %v: error %v, want %v", c.name, c.lower, err, c.is)
		}
	}
	a.gone("mvs-a")
	a.shows(a.link("here"), linkspec.Link{Kind: linkspec.Tap, Alias: new("")})
	draft, err := a.Create(linkspec.Link{Kind: linkspec.Upper, Name: "mvs-a", Lower: &linkspec.Place{Netns: a.netns, Name: "tap0"}})
	a.must(err)
	a.must(draft.Discard())
	a.gone("mvs-a")
	a.linkIn("tap0")
}

func testShortcut(a *away) {
	a.tapIn("tap0")
	port := a.veth("mvp-a", "mvi-a")
	a.shows(port, linkspec.Link{Shortcut: new("")})
	if err := a.Set(port, linkspec.Link{Shortcut: new("mvs-a")}); !errors.Is(err, fs.ErrNotExist) {
		a.t.Errorf("by a device that is not there: error %v, want fs.ErrNotExist", err)
	}
	upper := a.upper("mvs-a", "tap0")
	a.shows(a.link("mvp-a"), linkspec.Link{Shortcut: new("")})
	for _, by := range []string{"mvs-a", "mvs-a", "", "", "mvs-a"} {
		a.shows(a.set(port, linkspec.Link{Shortcut: &by}), linkspec.Link{Shortcut: &by})
	}
	a.must(a.Delete(upper))
	a.upper("mvs-a", "tap0") // of the same name, but another device
	a.shows(a.link("mvp-a"), linkspec.Link{Shortcut: new("")})
}

func testUnqueued(a *away) {
	tap := a.tapIn("tap0")
	a.shows(tap, linkspec.Link{Unqueued: new(false)})
	for _, off := range []bool{true, true, false, false, true} {
		a.must(a.Set(tap, linkspec.Link{Unqueued: &off}))
		a.shows(a.linkIn("tap0"), linkspec.Link{Unqueued: &off})
	}
	a.must(a.Set(tap, linkspec.Link{Up: new(true)}))
	a.shows(a.linkIn("tap0"), linkspec.Link{Unqueued: new(true), Up: new(true)})
	if err := a.Set(a.tap("here"), linkspec.Link{Unqueued: new(true)}); err == nil {
		a.t.Error("no error for a tap of the host")
	}
}
