package config

import (
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	vrrp := net.HardwareAddr{0, 0, 0x5e, 0, 1, 7}
	for _, c := range []struct {
		keys string
		want Guard
	}{
		{``, on},
		{`"guard": {}`, on},
		{`"guard": null`, on},
		{`"guard": {"mode": "enforce"}`, on},
		{`"macspoofchk": true`, on},
		{`"guard": {"//": "a remark", "example.com/x": 1}`, on},
		{`"macspoofchk": false`, on},
		{`"guard": {"mode": "off"}`, Guard{Off: true, HostAccess: HostAll, Metadata: true, StormLimit: 1000, GroupLimit: 128}},
		{`"guard": {"mode": "off", "isolate": false, "addresses": []}, "macspoofchk": false`, Guard{Off: true, HostAccess: HostAll, Metadata: true, StormLimit: 1000, GroupLimit: 128}},
		{
			`"guard": {"addresses": ["10.1.0.7", "10.2.0.0/24", "fd00::7", "fe80::/64"], "macs": ["00-00-5E-00-01-07"], "isolate": true,
			 "hostAccess": "gateway", "metadata": false, "stormLimit": 0, "groupLimit": 256}`,
			Guard{
				Addresses: []netip.Prefix{
					netip.MustParsePrefix("10.1.0.7/32"), netip.MustParsePrefix("10.2.0.0/24"),
					netip.MustParsePrefix("fd00::7/128"), netip.MustParsePrefix("fe80::/64"),
				},
				MACs: []net.HardwareAddr{vrrp}, Isolate: true, HostAccess: HostGateway, GroupLimit: 256,
			},
		},
		{`"guard": {"hostAccess": "none", "stormLimit": 50}`, Guard{HostAccess: HostNone, Metadata: true, StormLimit: 50, GroupLimit: 128}},
	} {
		b, err := ParseBridge([]byte(conf(c.keys)), Runtime{})
		if err != nil {
			t.Errorf("%s: %v", c.keys, err)
			continue
		}
		if !reflect.DeepEqual(b.Guard, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.keys, b.Guard, c.want)
		}
	}
}

func TestRefuseGuard(t *testing.T) {
	for _, c := range []struct{ keys, msg, details string }{
		{`"guard": "off"`, "guard: want an object, got a string", `write it as`},
		{`"guard": {"mod": "off"}`, `unknown key "mod" in guard`, `did you mean "mode"?`},
		{`"guard": {"x": 1}`, `unknown key "x" in guard`, "guard knows mode,"},
		{`"guard": {"mode": "learn"}`, `guard.mode: "learn" is not a mode`, `"enforce"`},
		{`"guard": {"mode": "off", "isolate": true}`, `guard.isolate: with "mode": "off" nothing is enforced`, `"mode": "enforce"`},
		{`"guard": {"mode": "off"}, "macspoofchk": true`, "contradict", "remove one"},
		{`"guard": {"addresses": ["10.0.0.300"]}`, `guard.addresses: "10.0.0.300" is no address`, "10.0.0.5"},
		{`"guard": {"addresses": ["224.0.0.1"]}`, "is no address that a guest could use", "10.0.0.5"},
		{`"guard": {"addresses": ["fe80::1%eth0"]}`, "is no address that a guest could use", "10.0.0.5"},
		{`"guard": {"addresses": ["127.0.0.1"]}`, "is no address that a guest could use", "10.0.0.5"},
		{`"guard": {"addresses": ["255.255.255.255"]}`, "is no address that a guest could use", "10.0.0.5"},
		{`"guard": {"addresses": ["0.0.0.0"]}`, "is no address that a guest could use", "10.0.0.5"},
		{`"guard": {"addresses": ["10.2.0.9/24"]}`, `"10.2.0.9/24" is an address with a length`, "write 10.2.0.9 for the address, or 10.2.0.0/24"},
		{`"guard": {"addresses": ["fd00::7", 5]}`, "guard.addresses[1]: want a string, got a number", "..."},
		{`"guard": {"addresses": [null]}`, "guard.addresses[0]: want a string", "..."},
		{`"guard": {"mode": "enforce", "mode": "off"}`, `guard: key "mode" is there twice`, "remove one"},
		{`"dns": {"domain": "a", "domain": "b"}`, `dns: key "domain" is there twice`, "remove one"},
		{`"vlanTrunk": [{"id": 5, "id": 6}]`, `vlanTrunk[0]: key "id" is there twice`, "remove one"},
		{`"guard": {"macs": ["01:00:00:00:00:01"]}`, "multicast", "02:"},
		{`"guard": {"macs": [""]}`, "an entry is empty", "6 bytes"},
		{`"guard": {"hostAccess": "some"}`, `guard.hostAccess: "some" is not known`, `"gateway"`},
		{`"guard": {"groupLimit": 4097}`, "out of range", "multicast groups"},
		{`"guard": {"stormLimit": -1}`, "out of range", "frames a second"},
		{`"guard": {"metadata": "drop"}`, "want true or false", "without quotes"},
		{`"macspoofchk": "yes"`, "macspoofchk: want true or false", "without quotes"},
	} {
		err := parseBridge(conf(c.keys), Runtime{})
		if err == nil {
			t.Errorf("%s: no error", c.keys)
			continue
		}
		e := refused(t, err)
		if !strings.Contains(e.Msg, c.msg) || !strings.Contains(e.Details, c.details) {
			t.Errorf("%s:\ngot  %q, %q\nwant %q, %q", c.keys, e.Msg, e.Details, c.msg, c.details)
		}
	}
}
