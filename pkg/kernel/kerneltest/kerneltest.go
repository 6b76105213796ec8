// Package kerneltest holds every implementation of reconcile.Kernel to what
// that interface says, sentence by sentence.
package kerneltest

import (
	"errors"
	"io/fs"
	"net"
	"reflect"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// host is a kernel under test, on which a call that fails ends the test.
type host struct {
	t *testing.T
	reconcile.Kernel
}

// suite has a row for each thing that the interface promises.
var suite = []struct {
	name string
	test func(h *host)
}{
	{"Link finds a link by its name and its alternative names", testLookup},
	{"what is not there is fs.ErrNotExist", testNotExist},
	{"Links tells of every link, without addresses and IPv6", testLinks},
	{"Ports tells of the bridge's ports only, without addresses and IPv6", testPorts},
	{"Routes tells where a link leads, but for what every link has", testRoutes},
	{"Create makes a tap, down, for its owner", testCreateTap},
	{"Create makes a bridge, down, with its alias", testCreateBridge},
	{"Create gives a bridge a MAC address that no port changes", testBridgeMAC},
	{"Create refuses a name that is taken with fs.ErrExist", testExist},
	{"Create refuses what is no name, and other kinds", testCreateRefused},
	{"a draft that is kept stays, one that is discarded goes", testDraft},
	{"Set gives a link each declared field, and touches no other", testSetEach},
	{"Set gives a port its flags", testPortFlags},
	{"Set binds stations to a port, unless another device has them", testStations},
	{"Set guards a port, before and after it is one, and takes the guard off", testGuard},
	{"Set may be called again", testSetAgain},
	{"Set pins a bridge's MTU, even the one that it has", testPinMTU},
	{"Set keeps IPv6 off when the MTU grows long enough for it", testIPv6OffAcrossMTU},
	{"Set takes a port off its bridge", testLeave},
	{"Set moves a port to another bridge", testMove},
	{"Set removes an address, and leaves the others", testRemoveAddress},
	{"Set adds an address in the place of one with another prefix length", testReplaceAddress},
	{"Set skips duplicate address detection where that is declared", testNoDAD},
	{"Set refuses an address that is there with another prefix length", testPrefixLength},
	{"Set refuses an alternative name that is taken with fs.ErrExist", testAltNameTaken},
	{"Set refuses what can only be given at creation", testSetRefused},
	{"Set refuses a link as bridge that is none", testNoBridge},
	{"Set refuses port flags on what is no port", testNoPort},
	{"Set refuses the port after the last", testFullBridge},
	{"Create makes an ifb device, down, with its alias", testCreateIFB},
	{"Set limits a port, and Shaping reads it back", testShaping},
	{"Set limits a port anew, and takes limits off", testShapingAgain},
	{"Shaping sees no limit without its device", testShapingDevices},
	{"Set refuses limits without their devices", testShapingRefused},
	{"Delete frees the name, and leaves other links alone", testDeleteOne},
	{"Delete takes several links, of which some are gone", testDeleteMany},
	{"Delete of a bridge leaves its ports", testDeleteBridge},
	{"Delete of nothing does nothing", testDeleteNone},
	{"Holder names the port or bridge that has the address", testHolder},
	{"CanFilter makes nothing, and says what Create does", testCanFilter},
	{"Create makes a bridge that filters VLANs, Set switches it", testFiltering},
	{"Set puts a port into the declared VLANs and no others", testVLANs},
	{"Links and Ports tell of a bridge that filters, without VLANs", testLinksOfVLANs},
	{"Create makes a VLAN device, down, with its alias", testVLANDevice},
	{"Set puts the bridge below a VLAN device into its VLAN", testCarried},
	{"Delete of a bridge takes its VLAN devices", testDeleteBelow},
	{"Sysctl reads what SetSysctl wrote", testSysctl},
	{"Masquerade adds what is missing, Unmasquerade removes all", testMasquerade},
	{"Unmasquerade leaves other networks alone", testMasqueradeHolders},
	{"Unmasquerade leaves other containers alone", testMasqueradeContainers},
	{"Lock keeps others out until unlock", testLock},
	{"Lock gives up when its context ends", testLockContext},
}

// Run tests the kernels that newKernel returns: for each test one that holds
// nothing but a loopback device.
func Run(t *testing.T, newKernel func(t *testing.T) reconcile.Kernel) {
	t.Helper()
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) { s.test(&host{t: t, Kernel: newKernel(t)}) })
	}
}

// must ends the test if there is an error.
func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) link(name string) linkspec.Link {
	h.t.Helper()
	l, err := h.Link(name)
	h.must(err)
	return l
}

// create makes a link and keeps it.
func (h *host) create(l linkspec.Link) linkspec.Link {
	h.t.Helper()
	draft, err := h.Create(l)
	h.must(err)
	h.must(draft.Keep())
	return h.link(l.Name)
}

func (h *host) tap(name string) linkspec.Link {
	h.t.Helper()
	return h.create(linkspec.Link{Kind: linkspec.Tap, Name: name})
}

func (h *host) bridge(name string) linkspec.Link {
	h.t.Helper()
	return h.create(linkspec.Link{Kind: linkspec.Bridge, Name: name})
}

// port makes a tap that is a port of the bridge.
func (h *host) port(name, bridge string) linkspec.Link {
	h.t.Helper()
	return h.set(h.tap(name), linkspec.Link{Master: &bridge})
}

// set changes a link and returns it as it is then.
func (h *host) set(l, change linkspec.Link) linkspec.Link {
	h.t.Helper()
	h.must(h.Set(l, change))
	return h.link(l.Name)
}

// shows fails the test for each declared field that the link does not show.
func (h *host) shows(l, want linkspec.Link) {
	h.t.Helper()
	want.Name = l.Name
	for _, d := range linkspec.Diff(want, l) {
		h.t.Error(d)
	}
}

// gone fails the test if there is a link of that name.
func (h *host) gone(name string) {
	h.t.Helper()
	if _, err := h.Link(name); !errors.Is(err, fs.ErrNotExist) {
		h.t.Errorf("look up %s: error %v, want fs.ErrNotExist", name, err)
	}
}

// holder fails the test if somebody else holds the address on the bridge.
func (h *host) holder(bridge string, mac net.HardwareAddr, want string) {
	h.t.Helper()
	got, err := h.Holder(bridge, mac)
	h.must(err)
	if got != want {
		h.t.Errorf("holder of %s is %q, want %q", mac, got, want)
	}
}

// same fails the test if the two links differ in any field but those that
// ignore clears in both.
func (h *host) same(got, want linkspec.Link, ignore func(*linkspec.Link)) {
	h.t.Helper()
	ignore(&got)
	ignore(&want)
	if !reflect.DeepEqual(got, want) {
		h.t.Errorf("other fields changed:\n%v\nwere:\n%v", got, want)
	}
}

// names are the names of the links.
func names(links []linkspec.Link) []string {
	var list []string
	for _, l := range links {
		list = append(list, l.Name)
	}
	return list
}

func parseMAC(s string) net.HardwareAddr {
	mac, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return mac
}
