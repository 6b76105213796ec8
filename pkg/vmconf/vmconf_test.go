package vmconf

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
)

var vm1 = Attachment{ContainerID: "vm1", IfName: "eth0", Netns: "/run/netns/vm1"}

// parsed reads a result as a runtime gets it.
func parsed(t *testing.T, text string) types.Result {
	t.Helper()
	r, err := create.CreateFromBytes([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

// Results of the plugins, by what they are good for.
const (
	onHost = `{"cniVersion": "1.1.0", "interfaces": [
		{"name": "br0", "mac": "02:00:00:00:bb:00", "mtu": 1500},
		{"name": "mvt-a", "mac": "fe:00:00:00:00:01", "mtu": 1400},
		{"name": "mvt-a", "mac": "02:00:00:00:00:01", "mtu": 1400, "sandbox": "vm1"},
		{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1400, "sandbox": "/run/netns/vm1"}],
		"ips": [{"interface": 2, "address": "10.1.0.2/16", "gateway": "10.1.0.1"}, {"interface": 2, "address": "fd00:1::2/64", "gateway": "fd00:1::1"},
			{"interface": 3, "address": "10.1.0.2/16", "gateway": "10.1.0.1"}, {"interface": 3, "address": "fd00:1::2/64", "gateway": "fd00:1::1"}],
		"routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9", "priority": 7, "mtu": 1300, "advmss": 1200, "table": 5}],
		"dns": {"nameservers": ["10.1.0.1", "fd00:1::1", "9.9.9.9"], "domain": "lab.test", "search": ["a.test", "b.test"], "options": ["ndots:2"]}}`

	inNetns = `{"cniVersion": "1.0.0", "interfaces": [
		{"name": "br0", "mac": "02:00:00:00:bb:00"},
		{"name": "eth0", "mac": "fe:00:00:00:00:01", "sandbox": "/run/netns/vm1"},
		{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "vm1"},
		{"name": "mvp-a", "mac": "fe:00:00:00:00:02"}],
		"ips": [{"interface": 2, "address": "10.1.0.2/16", "gateway": "10.1.0.1"}, {"interface": 1, "address": "fd00:1::2/64", "gateway": "fd00:1::1"}],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "dns": {}}`

	// The tap is called by TAP_NAME, so that portmap gets a copy of the addresses.
	namedInNetns = `{"cniVersion": "0.4.0", "interfaces": [
		{"name": "br0", "mac": "02:00:00:00:bb:00"},
		{"name": "tap1", "mac": "fe:00:00:00:00:01", "sandbox": "/run/netns/vm1"},
		{"name": "tap1", "mac": "02:00:00:00:00:01", "sandbox": "vm1"},
		{"name": "mvp-a", "mac": "fe:00:00:00:00:02"},
		{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/vm1"}],
		"ips": [{"version": "4", "interface": 2, "address": "10.1.0.2/16", "gateway": "10.1.0.1"}, {"version": "4", "interface": 4, "address": "10.1.0.2/16", "gateway": "10.1.0.1"}],
		"dns": {}}`

	withoutAddresses = `{"cniVersion": "0.3.1", "interfaces": [
		{"name": "br0"}, {"name": "tap1"}, {"name": "tap1", "mac": "02:00:00:00:00:01", "sandbox": "vm1"}], "dns": {}}`
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text, tap, netns string
		mtu                    int
		addresses, routes      []string
	}{
		{
			"tap on the host", onHost, "mvt-a", "", 1400,
			[]string{"10.1.0.2/16 10.1.0.1", "fd00:1::2/64 fd00:1::1"},
			[]string{"0.0.0.0/0 10.1.0.1", "::/0 fd00:1::1", "10.9.0.0/16 10.1.0.9"},
		},
		{
			"tap in CNI_NETNS", inNetns, "eth0", "/run/netns/vm1", 0,
			[]string{"10.1.0.2/16 10.1.0.1", "fd00:1::2/64 fd00:1::1"},
			[]string{"0.0.0.0/0 10.1.0.1", "::/0 fd00:1::1"},
		},
		{
			"tap in CNI_NETNS by another name", namedInNetns, "tap1", "/run/netns/vm1", 0,
			[]string{"10.1.0.2/16 10.1.0.1"},
			nil,
		},
		{"no addresses", withoutAddresses, "tap1", "", 0, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := Parse(parsed(t, c.text), vm1)
			if err != nil {
				t.Fatal(err)
			}
			if n.Tap != c.tap || n.Netns != c.netns || n.MAC.String() != "02:00:00:00:00:01" || n.MTU != c.mtu || n.Attachment != vm1 {
				t.Errorf("got %+v", n)
			}
			var addresses, routes []string
			for _, a := range n.Addresses {
				addresses = append(addresses, a.Prefix.String()+" "+a.Gateway.String())
			}
			for _, r := range n.Routes {
				routes = append(routes, r.Dst.String()+" "+r.Via.String())
			}
			if !slices.Equal(addresses, c.addresses) || !slices.Equal(routes, c.routes) {
				t.Errorf("addresses are %q, routes are %q", addresses, routes)
			}
		})
	}
}

func TestParseTakesAllOfRoutesAndDNS(t *testing.T) {
	n, err := Parse(parsed(t, onHost), vm1)
	if err != nil {
		t.Fatal(err)
	}
	want := Route{
		Dst: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("10.1.0.9"), MTU: 1300, AdvMSS: 1200, Priority: 7, Table: new(5),
	}
	if !reflect.DeepEqual(n.Routes[2], want) {
		t.Errorf("route is %+v, want %+v", n.Routes[2], want)
	}
	dns := DNS{
		Nameservers: []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("9.9.9.9")},
		Domain:      "lab.test", Search: []string{"a.test", "b.test"}, Options: []string{"ndots:2"},
	}
	if !reflect.DeepEqual(n.DNS, dns) {
		t.Errorf("DNS is %+v, want %+v", n.DNS, dns)
	}
}

// change is a result with another text in it.
func change(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("no %s in %s", old, text)
	}
	return strings.Replace(text, old, replacement, 1)
}

// Whatever other plugins of the chain list, and do not bind to the guest, is not the guest's.
func TestParseLeavesOthersAlone(t *testing.T) {
	text := change(t, onHost, `"sandbox": "/run/netns/vm1"}]`, `"sandbox": "/run/netns/vm1"},
		{"name": "wire0"}, {"name": "eth0", "sandbox": "/run/netns/other"}]`)
	text = change(t, text, `"ips": [`, `"ips": [{"address": "192.0.2.1/24"}, {"interface": 0, "address": "192.0.2.2/24"}, {"interface": 5, "address": "192.0.2.3/24"},
		{"interface": 1, "address": "10.1.0.2/16"},`)
	n, err := Parse(parsed(t, text), vm1)
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Addresses) != 2 || n.Tap != "mvt-a" {
		t.Errorf("tap is %s, addresses are %v", n.Tap, n.Addresses)
	}
}

func TestPairing(t *testing.T) {
	guestNIC := `{"name": "mvt-a", "mac": "02:00:00:00:00:01", "mtu": 1400, "sandbox": "vm1"},`
	tapLink := `{"name": "mvt-a", "mac": "fe:00:00:00:00:01", "mtu": 1400},`
	for _, c := range []struct {
		name, text string
		a          Attachment
		missing    string
		found      int
	}{
		{"another container ID", onHost, Attachment{ContainerID: "vm2"}, "guest's NIC", 0},
		{"two guest's NICs", change(t, onHost, guestNIC, guestNIC+guestNIC), vm1, "guest's NIC", 2},
		{"no tap", change(t, onHost, tapLink, `{"name": "veth1"},`), vm1, "tap", 0},
		{"two taps", change(t, onHost, tapLink, tapLink+`{"name": "mvt-a", "sandbox": "/run/netns/vm1"},`), vm1, "tap", 2},
		{"tap in another namespace", inNetns, Attachment{ContainerID: "vm1", Netns: "/run/netns/vm2"}, "tap", 0},
		{"no interfaces", `{"cniVersion": "1.0.0", "dns": {}}`, vm1, "guest's NIC", 0},
		{"version 0.2.0", `{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}, "dns": {}}`, vm1, "guest's NIC", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := Parse(parsed(t, c.text), c.a)
			var pairing *PairingError
			if !errors.As(err, &pairing) {
				t.Fatalf("got %+v, %v", n, err)
			}
			if pairing.Missing != c.missing || len(pairing.Found) != c.found || !strings.Contains(err.Error(), c.missing) {
				t.Errorf("got %+v: %v", pairing, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no MAC", change(t, onHost, `"mac": "02:00:00:00:00:01", `, ""), "MAC address"},
		{"a long MAC", change(t, onHost, `"02:00:00:00:00:01"`, `"02:00:00:00:00:01:02:03"`), "MAC address"},
		{"an index beyond", change(t, onHost, `"interface": 2`, `"interface": 9`), "interface 9"},
		{"a null", change(t, onHost, `"ips": [`, `"ips": [null,`), "null"},
		{"a name server by name", change(t, onHost, `"9.9.9.9"`, `"ns.test"`), "ns.test"},
		{"a domain of two lines", change(t, onHost, `"a.test"`, `"a.test\nDHCP=yes"`), "not one word"},
		{"a tap with a space", strings.ReplaceAll(onHost, "mvt-a", "mvt a"), "no name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n, err := Parse(parsed(t, c.text), vm1); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v, want an error about %q", n, err, c.want)
			}
		})
	}
	if _, err := Parse(nil, vm1); err == nil {
		t.Error("no result is accepted")
	}
	if _, err := Parse(parsed(t, onHost), Attachment{}); err == nil {
		t.Error("no container ID is accepted")
	}
}
