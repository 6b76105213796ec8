package kerneltest

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// away is a kernel under test with a VMM's namespace beside the host's.
type away struct {
	*host
	netns string // its path
}

var awaySuite = []struct {
	name string
	test func(a *away)
}{
	{"links of two namespaces may have one name", testSameName},
	{"LinkIn finds a link by its alternative names, Link does not", testLinkIn},
	{"a path that leads to no namespace is fs.ErrNotExist", testNoNetns},
	{"Set gives a link in another namespace each field", testSetAway},
	{"Links tells of the host's only", testLinksAway},
	{"Create makes a tap in another namespace, and a draft of it goes", testDraftAway},
	{"Create makes a veth, down, with its alias, and its other end in its place", testCreateVeth},
	{"Create refuses a veth of which a name is taken, and makes no part of it", testVethTaken},
	{"Delete takes both ends of a veth, and links of several namespaces", testDeleteAway},
	{"Set splices a tap, again too, and undoes that", testSplice},
	{"Set splices no tap of the host", testSpliceOnHost},
	{"Create makes an upper device over a tap, deaf, which goes with the tap", testCreateUpper},
	{"Create refuses an upper device whose name is taken, or over nothing", testUpperRefused},
	{"Set makes frames take an upper device, again too, and undoes that", testShortcut},
	{"Set takes the queue off a tap, again too, and gives it back", testUnqueued},
}

// RunNetns tests the kernels that newKernel returns, as Run does, each with the path
// of another network namespace.
func RunNetns(t *testing.T, newKernel func(t *testing.T) (k reconcile.Kernel, netns string)) {
	t.Helper()
	for _, s := range awaySuite {
		t.Run(s.name, func(t *testing.T) {
			k, netns := newKernel(t)
			s.test(&away{host: &host{t: t, Kernel: k}, netns: netns})
		})
	}
}

func (a *away) linkIn(name string) linkspec.Link {
	a.t.Helper()
	l, err := a.LinkIn(a.netns, name)
	a.must(err)
	return l
}

// tapIn makes a tap in the VMM's namespace.
func (a *away) tapIn(name string) linkspec.Link {
	a.t.Helper()
	draft, err := a.Create(linkspec.Link{Kind: linkspec.Tap, Name: name, Netns: a.netns, Owner: new(uint32(1000))})
	a.must(err)
	a.must(draft.Keep())
	return a.linkIn(name)
}

// veth makes a pair whose inner end is in the VMM's namespace.
func (a *away) veth(name, inner string) linkspec.Link {
	a.t.Helper()
	draft, err := a.Create(linkspec.Link{
		Kind: linkspec.Veth, Name: name, Alias: new("tag"), Peer: &linkspec.Place{Netns: a.netns, Name: inner},
	})
	a.must(err)
	a.must(draft.Keep())
	return a.link(name)
}

func (a *away) goneIn(name string) {
	a.t.Helper()
	if _, err := a.LinkIn(a.netns, name); !errors.Is(err, fs.ErrNotExist) {
		a.t.Errorf("look up %s in the VMM's namespace: error %v, want fs.ErrNotExist", name, err)
	}
}

func testSameName(a *away) {
	there, here := a.tapIn("tap0"), a.tap("tap0")
	if there.Netns != a.netns || here.Netns != "" {
		a.t.Errorf("namespaces are %q and %q", there.Netns, here.Netns)
	}
	a.must(a.Set(there, linkspec.Link{AltNames: []string{longName}, MTU: new(1400)}))
	a.must(a.Set(here, linkspec.Link{AltNames: []string{longName}}))
	a.shows(a.linkIn("tap0"), linkspec.Link{Netns: a.netns, MTU: new(1400)})
	a.shows(a.link("tap0"), linkspec.Link{MTU: new(1500)})
	a.must(a.Delete(there))
	a.link("tap0")
	a.goneIn("tap0")
}

func testLinkIn(a *away) {
	a.must(a.Set(a.tapIn("tap0"), linkspec.Link{AltNames: []string{longName}}))
	if l := a.linkIn(longName); l.Name != "tap0" || l.Kind != linkspec.Tap || *l.Owner != 1000 {
		a.t.Errorf("link is %v", l)
	}
	a.gone(longName)
	a.tap("here")
	if l, err := a.LinkIn("", "here"); err != nil || l.Name != "here" {
		a.t.Errorf("on the host: %v, error %v", l, err)
	}
}

func testNoNetns(a *away) {
	for _, path := range []string{"/run/netns/none", "/etc/passwd/none", "/dev/null"} {
		_, err := a.LinkIn(path, "tap0")
		_, tap := a.Create(linkspec.Link{Kind: linkspec.Tap, Name: "tap0", Netns: path})
		_, veth := a.Create(linkspec.Link{Kind: linkspec.Veth, Name: "veth0", Peer: &linkspec.Place{Netns: path, Name: "inner0"}})
		for _, err := range []error{err, tap, veth, a.Set(linkspec.Link{Name: "tap0", Netns: path, Index: 2}, linkspec.Link{Up: new(true)})} {
			if !errors.Is(err, fs.ErrNotExist) {
				a.t.Errorf("%s: error %v, want fs.ErrNotExist", path, err)
			}
		}
		a.must(a.Delete(linkspec.Link{Name: "tap0", Netns: path, Index: 2}))
	}
	a.gone("veth0")
}

func testSetAway(a *away) {
	change := linkspec.Link{
		AltNames: []string{longName}, Alias: new("alias"), MAC: parseMAC("02:00:00:00:00:77"), MTU: new(1400), TxQueueLen: new(77),
		IPv6: new(false), AcceptRA: new(false), Up: new(true),
	}
	l := a.tapIn("tap0")
	a.tap("tap0") // whose parameters of IPv6 have the same names
	a.must(a.Set(l, change))
	a.shows(a.linkIn("tap0"), change)
	a.shows(a.link("tap0"), linkspec.Link{IPv6: new(true), Alias: new(""), Up: new(false)})
}

func testLinksAway(a *away) {
	a.tapIn("tap0")
	links, err := a.Links()
	a.must(err)
	for _, l := range links {
		if l.Name == "tap0" {
			a.t.Error("Links tells of another namespace's")
		}
	}
}

func testDraftAway(a *away) {
	draft, err := a.Create(linkspec.Link{Kind: linkspec.Tap, Name: "tap0", Netns: a.netns})
	a.must(err)
	a.linkIn("tap0")
	a.gone("tap0")
	a.must(draft.Discard())
	a.goneIn("tap0")
}

func testCreateVeth(a *away) {
	l := a.veth("veth0", "inner0")
	a.shows(l, linkspec.Link{Kind: linkspec.Veth, Alias: new("tag"), Up: new(false)})
	a.shows(a.linkIn("inner0"), linkspec.Link{Netns: a.netns, Kind: linkspec.Veth, Up: new(false)})
	a.gone("inner0")
	a.bridge("br0")
	a.shows(a.set(l, linkspec.Link{Master: new("br0"), Isolated: new(true)}), linkspec.Link{Master: new("br0"), Isolated: new(true)})
	draft, err := a.Create(linkspec.Link{Kind: linkspec.Veth, Name: "veth1", Peer: &linkspec.Place{Netns: a.netns, Name: "inner1"}})
	a.must(err)
	a.must(draft.Discard())
	a.gone("veth1")
	a.goneIn("inner1")
}

func testVethTaken(a *away) {
	a.tap("here")
	a.tapIn("there")
	for _, names := range [][2]string{{"here", "inner0"}, {"veth0", "there"}} {
		_, err := a.Create(linkspec.Link{
			Kind: linkspec.Veth, Name: names[0], Alias: new("tag"), Peer: &linkspec.Place{Netns: a.netns, Name: names[1]},
		})
		if !errors.Is(err, fs.ErrExist) {
			a.t.Errorf("%v: error %v, want fs.ErrExist", names, err)
		}
	}
	a.gone("veth0")
	a.goneIn("inner0")
	a.shows(a.link("here"), linkspec.Link{Kind: linkspec.Tap, Alias: new("")})
}

func testDeleteAway(a *away) {
	veth, tap := a.veth("veth0", "inner0"), a.tapIn("tap0")
	more, here := a.tapIn("tap1"), a.tap("tap2")
	a.must(a.Delete(veth, tap, more, here))
	for _, name := range []string{"inner0", "tap0", "tap1"} {
		a.goneIn(name)
	}
	a.gone("veth0")
	a.gone("tap2")
	a.must(a.Delete(veth, tap))
}

func testSplice(a *away) {
	a.veth("veth0", "mvi-a")
	a.veth("veth1", "mvi-b")
	tap := a.tapIn("tap0")
	a.shows(tap, linkspec.Link{Netns: a.netns, Splice: new("")})
	for _, to := range []string{"mvi-a", "mvi-a", "mvi-b", "", ""} {
		a.must(a.Set(tap, linkspec.Link{Splice: &to}))
		a.shows(a.linkIn("tap0"), linkspec.Link{Netns: a.netns, Splice: &to})
	}
	if err := a.Set(tap, linkspec.Link{Splice: new("none")}); !errors.Is(err, fs.ErrNotExist) {
		a.t.Errorf("to a link that is not there: error %v, want fs.ErrNotExist", err)
	}
}

func testSpliceOnHost(a *away) {
	a.tap("tap1")
	if err := a.Set(a.tap("tap0"), linkspec.Link{Splice: new("tap1")}); err == nil {
		a.t.Error("no error")
	}
}
