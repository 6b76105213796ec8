package config

import (
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// theMAC is 02:00:00:00:00:01.
var theMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}

var lab = Common{CNIVersion: "1.1.0", Network: "lab"}

// on is the guard that nobody configured.
var on = Guard{HostAccess: HostAll, Metadata: true, StormLimit: 1000, GroupLimit: 128}

func TestParseTap(t *testing.T) {
	root := &ID{}
	for _, c := range []struct {
		name, keys, args string
		want             Tap
	}{
		{"defaults", ``, ``, Tap{Common: lab, Placement: "host", Owner: root}},
		{
			"every key",
			`"type": "microvm-tap", "placement": "host", "owner": "microvm", "group": 109, "multiQueue": true, "mtu": 9000,
			 "mac": "02-00-00-00-00-01", "selinuxContext": "system_u:system_r:svirt_t:s0:c1,c2", "txQueueLen": 500,
			 "capabilities": {"mac": true, "portMappings": true}, "runtimeConfig": {"portMappings": [{}], "ips": 5}, "args": {"labels": []},
			 "prevResult": null, "cni.dev/attachments": [], "//": "a remark"`, ``,
			Tap{
				Common: lab, Placement: "host", Owner: &ID{Name: "microvm"}, Group: &ID{Number: 109}, MultiQueue: true, MTU: 9000,
				MAC: theMAC, SELinuxContext: "system_u:system_r:svirt_t:s0:c1,c2", TxQueueLen: 500,
			},
		},
		{
			"null is not given", `"placement": null, "owner": null, "group": null, "multiQueue": null, "mtu": null, "mac": null, "args": null`, ``,
			Tap{Common: lab, Placement: "host", Owner: root},
		},
		{
			"empty is not given, as upstream", `"mtu":0 , "mac": "", "selinuxContext": "", "ipam": {}, "dns": {}`, `MAC=;IP=;GATEWAY=`,
			Tap{Common: lab, Placement: "host", Owner: root},
		},
		{"least", `"mtu": 68, "txQueueLen": 1, "owner": 0`, ``, Tap{Common: lab, Placement: "host", MTU: 68, TxQueueLen: 1, Owner: root}},
		{
			"most", `"mtu": 65521, "txQueueLen": 100000, "owner": 4294967294`, ``,
			Tap{Common: lab, Placement: "host", MTU: 65521, TxQueueLen: 100000, Owner: &ID{Number: 4294967294}},
		},
		{"a number in quotes", `"owner": "1000"`, ``, Tap{Common: lab, Placement: "host", Owner: &ID{Number: 1000}}},
		{"a name from a directory", `"owner": "LAB\\vm@1"`, ``, Tap{Common: lab, Placement: "host", Owner: &ID{Name: `LAB\vm@1`}}},
		{"a group alone: no owner", `"group": "kvm"`, ``, Tap{Common: lab, Placement: "host", Group: &ID{Name: "kvm"}}},
		{
			"arguments go before keys", `"owner": 1, "group": 2`, `TAP_NAME=vm1;TAP_OWNER=microvm;TAP_GROUP=5`,
			Tap{Common: lab, Placement: "host", TapName: "vm1", Owner: &ID{Name: "microvm"}, Group: &ID{Number: 5}},
		},
		{
			"synonyms", ``, `TC_REDIRECT_TAP_NAME=br.x;TC_REDIRECT_TAP_UID=5;TC_REDIRECT_TAP_GID=6;TAP_GROUP=6`,
			Tap{Common: lab, Placement: "host", TapName: "br.x", Owner: &ID{Number: 5}, Group: &ID{Number: 6}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseTap([]byte(conf(c.keys)), Runtime{Args: c.args})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

func prefixes(all ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range all {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestParseBridge(t *testing.T) {
	hostLocal := func(f Families, subnets ...string) *IPAM {
		return &IPAM{Type: "host-local", Check: true, Families: f, Subnets: prefixes(subnets...)}
	}
	for _, c := range []struct {
		name, keys, args string
		want             Bridge
	}{
		{"defaults", ``, ``, Bridge{Common: lab, Bridge: "cni0"}},
		{
			"every key",
			`"type": "microvm-bridge", "bridge": "br0", "bridgeMode": "create", "isGateway": true, "isDefaultGateway": true,
			 "forceAddress": true, "mtu": 1400, "hairpinMode": true, "promiscMode": false, "portIsolation": true, "enabledad": true,
			 "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}, "ipamCheck": false,
			 "dns": {"nameservers": ["10.0.0.1", "fd00::1"], "domain": "lab", "search": ["lab"], "options": ["edns0"]},
			 "capabilities": {"mac": true, "ips": true, "bandwidth": true}, "args": {"cni": {"other": 1}}, "prevResult": null`,
			`MAC=02:00:00:00:00:01;IP=10.0.0.5`,
			Bridge{
				Common: lab, Bridge: "br0", IsGateway: true, IsDefaultGateway: true, ForceAddress: true, MTU: 1400, HairpinMode: true,
				PortIsolation: true, EnableDAD: true, IPAM: &IPAM{Type: "host-local", Families: Families{IPv4: true}, Subnets: prefixes("10.0.0.0/24")},
				DNS: types.DNS{
					Nameservers: []string{"10.0.0.1", "fd00::1"}, Domain: "lab", Search: []string{"lab"}, Options: []string{"edns0"},
				},
				MAC: theMAC, DelegateArgs: "IP=10.0.0.5",
			},
		},
		{
			"keys of the upstream plugin that switch nothing on",
			`"ipMasq": false, "ipMasqBackend": "", "vlan": 0, "vlanTrunk": [], "preserveDefaultVlan": false, "macspoofchk": false,
			 "disableContainerInterface": false, "ingressRate": 0, "guard": null, "runtimeConfig": {"bandwidth": {"ingressRate": 0}}`, ``,
			Bridge{Common: lab, Bridge: "cni0"},
		},
		{"a VLAN", `"vlan": 4094, "preserveDefaultVlan": true`, ``, Bridge{Common: lab, Bridge: "cni0", VLAN: 4094, PreserveDefaultVLAN: true}},
		{
			"a trunk, in any order, with overlaps", `"vlan": 5, "vlanTrunk": [{"minID": 9, "maxID": 11}, {"id": 4094}, {"id": 1, "minID": 10, "maxID": 12}, {"id": 5}]`, ``,
			Bridge{Common: lab, Bridge: "cni0", VLAN: 5, Trunk: []int{1, 5, 9, 10, 11, 12, 4094}},
		},
		{"masquerading", `"ipam": {"type": "static"}, "ipMasq": true`, ``, Bridge{Common: lab, Bridge: "cni0", IPMasq: true, IPAM: &IPAM{Type: "static", Check: true}}},
		{"masquerading by nftables", `"ipam": {"type": "static"}, "ipMasq": true, "ipMasqBackend": "nftables"`, ``, Bridge{Common: lab, Bridge: "cni0", IPMasq: true, IPAM: &IPAM{Type: "static", Check: true}}},
		{"masquerading by iptables", `"ipam": {"type": "static"}, "ipMasq": true, "ipMasqBackend": "iptables"`, ``, Bridge{Common: lab, Bridge: "cni0", IPMasq: true, IPTables: true, IPAM: &IPAM{Type: "static", Check: true}}},
		{
			"masquerading on somebody else's bridge", `"ipam": {"type": "static"}, "ipMasq": true, "bridge": "br0", "bridgeMode": "existing"`, ``,
			Bridge{Common: lab, Bridge: "br0", Existing: true, IPMasq: true, IPAM: &IPAM{Type: "static", Check: true}},
		},
		{"null is not given", `"bridge": null, "bridgeMode": null, "ipam": null, "ipamCheck": null, "dns": null`, ``, Bridge{Common: lab, Bridge: "cni0"}},
		{"existing", `"bridge": "br0", "bridgeMode": "existing", "mtu": 9000, "isGateway": false`, ``, Bridge{Common: lab, Bridge: "br0", Existing: true, MTU: 9000}},
		{
			"a default gateway is a gateway", `"isDefaultGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]}`, ``,
			Bridge{Common: lab, Bridge: "cni0", IsGateway: true, IsDefaultGateway: true, IPAM: hostLocal(Families{IPv4: true, IPv6: true}, "10.0.0.0/24", "fd00::/64")},
		},
		{"promisc", `"promiscMode": true`, ``, Bridge{Common: lab, Bridge: "cni0", PromiscMode: true}},
		{
			"arguments for the IPAM plugin keep their order", ``,
			`K8S_POD_NAME=web;TAP_NAME=x;IP=10.0.0.5/24;MAC=02:00:00:00:00:01;IgnoreUnknown=true;TC_REDIRECT_TAP_UID=5;GATEWAY=10.0.0.1`,
			Bridge{Common: lab, Bridge: "cni0", MAC: theMAC, DelegateArgs: "K8S_POD_NAME=web;IP=10.0.0.5/24;IgnoreUnknown=true;GATEWAY=10.0.0.1"},
		},
		{"a small mtu without IPv6", `"mtu": 576, "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}`, ``, Bridge{Common: lab, Bridge: "cni0", MTU: 576, IPAM: hostLocal(Families{IPv4: true}, "10.0.0.0/24")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseBridge([]byte(conf(c.keys)), Runtime{Args: c.args})
			if err != nil {
				t.Fatal(err)
			}
			if reflect.ValueOf(c.want.Guard).IsZero() {
				c.want.Guard = on
			}
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

// Of the sources of the guest's MAC address, listed from strong to weak, the
// strongest that is there counts.
func TestMACPrecedence(t *testing.T) {
	runtime, label, arg, own := `"runtimeConfig": {"mac": "02:00:00:00:00:01"}`, `"args": {"cni": {"mac": "02:00:00:00:00:02"}}`,
		"MAC=02:00:00:00:00:03", `"mac": "02:00:00:00:00:04"`
	for _, c := range []struct{ keys, args, tap, bridge string }{
		{runtime + "," + label + "," + own, arg, "02:00:00:00:00:01", "02:00:00:00:00:01"},
		{label + "," + own, arg, "02:00:00:00:00:02", "02:00:00:00:00:02"},
		{own, arg, "02:00:00:00:00:03", "02:00:00:00:00:03"},
		{own, "", "02:00:00:00:00:04", ""},
		{`"runtimeConfig": {"mac": ""}, ` + label, "", "02:00:00:00:00:02", "02:00:00:00:00:02"},
	} {
		tap, err := ParseTap([]byte(conf(c.keys)), Runtime{Args: c.args})
		if err != nil {
			t.Fatal(err)
		}
		if got := tap.MAC.String(); got != c.tap {
			t.Errorf("tap with %s and %s: got %s, want %s", c.keys, c.args, got, c.tap)
		}
		if c.bridge == "" {
			continue // mac is not a key of the bridge plugin
		}
		keys := c.keys
		if i := len(keys) - len(","+own); i > 0 && keys[i:] == ","+own {
			keys = keys[:i]
		} else if keys == own {
			keys = ""
		}
		bridge, err := ParseBridge([]byte(conf(keys)), Runtime{Args: c.args})
		if err != nil {
			t.Fatal(err)
		}
		if got := bridge.MAC.String(); got != c.bridge {
			t.Errorf("bridge with %s and %s: got %s, want %s", keys, c.args, got, c.bridge)
		}
	}
}

func TestMACNotations(t *testing.T) {
	for _, s := range []string{"02:ab:00:00:00:01", "02:AB:00:00:00:01", "02-ab-00-00-00-01", "02ab.0000.0001"} {
		got, err := parseMAC(cnierr.Config, "mac", s)
		if err != nil || got.String() != "02:ab:00:00:00:01" {
			t.Errorf("%s: got %s, %v", s, got, err)
		}
	}
}

func TestFamilies(t *testing.T) {
	v4, v6 := Families{IPv4: true}, Families{IPv6: true}
	both := Families{IPv4: true, IPv6: true}
	for _, c := range []struct {
		ipam, rest, args string
		want             Families
		subnets          []netip.Prefix
	}{
		{`"type": "static"`, ``, ``, Families{}, nil},
		{`"type": "host-local", "subnet": "10.0.0.0/24"`, ``, ``, v4, prefixes("10.0.0.0/24")},
		{`"type": "host-local", "ranges": [[{"subnet": "fd00::/64"}, {"subnet": "fd00:1::/64"}]]`, ``, ``, v6, prefixes("fd00::/64", "fd00:1::/64")},
		{`"type": "host-local", "subnet": "10.0.0.0/24", "routes": [{"dst": "::/0"}]`, ``, ``, v4, prefixes("10.0.0.0/24")},
		{`"type": "host-local", "subnet": "10.0.0.0/24", "dns": {"x": "fd00::/64"}, "resolvConf": "fd00::/64"`, ``, ``, v4, prefixes("10.0.0.0/24")},
		{`"type": "static", "addresses": [{"address": "10.0.0.5/24", "gateway": "fd00::/64"}]`, ``, ``, v4, prefixes("10.0.0.0/24")},
		{`"type": "static", "addresses": [{"address": "10.0.0.5/32"}]`, ``, ``, v4, nil},
		{`"type": "whereabouts", "range": "10.0.0.5-10.0.0.9/24", "exclude": ["10.0.0.8/30"]`, ``, ``, v4, prefixes("10.0.0.0/24")},
		{`"type": "whereabouts", "ipRanges": [{"range": "10.0.0.5-10.0.0.9/24"}, {"range": "fd00::5-fd00::9/64"}]`, ``, ``, both, prefixes("10.0.0.0/24", "fd00::/64")},
		{`"type": "static"`, `"runtimeConfig": {"ips": ["10.0.0.5"]}`, ``, v4, nil},
		{`"type": "static"`, `"runtimeConfig": {"ips": ["10.0.0.5/24", "fd00::5/64"]}`, ``, both, nil},
		{`"type": "host-local"`, `"runtimeConfig": {"ipRanges": [[{"subnet": "fd00::/64"}]]}`, ``, v6, prefixes("fd00::/64")},
		{`"type": "static"`, `"args": {"cni": {"ips": ["fd00::5/64"]}}`, ``, v6, nil},
		{`"type": "static"`, ``, `IP=10.0.0.5/24,fd00::5/64`, both, nil},
		{`"type": "static"`, ``, `IP=10.0.0.5/24, 10.0.0.6`, v4, nil},
	} {
		rest := ""
		if c.rest != "" {
			rest = ", " + c.rest
		}
		got, err := ParseBridge([]byte(conf(`"ipam": {`+c.ipam+`}`+rest)), Runtime{Args: c.args})
		if err != nil {
			t.Errorf("%s: %v", c.ipam, err)
			continue
		}
		if got.IPAM.Families != c.want {
			t.Errorf("%s %s %s: got %+v, want %+v", c.ipam, c.rest, c.args, got.IPAM.Families, c.want)
		}
		if !slices.Equal(got.IPAM.Subnets, c.subnets) {
			t.Errorf("%s %s %s: subnets %v, want %v", c.ipam, c.rest, c.args, got.IPAM.Subnets, c.subnets)
		}
	}

	addr4, addr6 := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")
	for _, c := range []struct {
		f      Families
		v4, v6 bool
	}{{Families{}, true, true}, {v4, true, false}, {v6, false, true}, {both, true, true}} {
		if c.f.Accept(addr4) != c.v4 || c.f.Accept(addr6) != c.v6 {
			t.Errorf("%+v: got %t, %t, want %t, %t", c.f, c.f.Accept(addr4), c.f.Accept(addr6), c.v4, c.v6)
		}
	}
}

func TestPrevResult(t *testing.T) {
	result := func(version, ip string) string {
		return `{"cniVersion": "` + version + `", "name": "lab", "prevResult": {"interfaces": [{"name": "tap0"}, {"name": "tap0", "mac": "02:00:00:00:00:01", "sandbox": "vm"}],
			"ips": [{` + ip + `"interface": 1, "address": "10.0.0.5/24", "gateway": "10.0.0.1"}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": "lab"}}}`
	}
	for _, c := range []struct{ version, ip string }{
		{"0.3.0", `"version": "4", `}, {"0.3.1", `"version": "4", `}, {"0.4.0", `"version": "4", `}, {"1.0.0", ""}, {"1.1.0", ""},
	} {
		got, err := ParseBridge([]byte(result(c.version, c.ip)), Runtime{})
		if err != nil {
			t.Errorf("%s: %v", c.version, err)
			continue
		}
		p := got.PrevResult
		if p == nil || len(p.Interfaces) != 2 || p.Interfaces[1].Sandbox != "vm" || len(p.IPs) != 1 || *p.IPs[0].Interface != 1 ||
			p.IPs[0].Address.String() != "10.0.0.5/24" || len(p.Routes) != 1 || p.DNS.Domain != "lab" {
			t.Errorf("%s: got %+v", c.version, p)
		}
	}
	// A runtime of 1.1.0 may hand on a result that says 1.0.0, and the other way round.
	if _, err := ParseTap([]byte(conf(`"prevResult": {"cniVersion": "1.0.0", "interfaces": []}`)), Runtime{}); err != nil {
		t.Error(err)
	}
}

func TestValidAttachments(t *testing.T) {
	for _, c := range []struct {
		keys string
		want []attachment.Attachment
	}{
		{`"cni.dev/valid-attachments": null`, nil},
		{`"cni.dev/valid-attachments": []`, nil},
		{`"frobnicate": true, "cni.dev/valid-attachments": []`, nil},
		{
			`"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}, {"containerID": "a", "ifname": "eth1", "more": 1}]`,
			[]attachment.Attachment{{Network: "lab", ContainerID: "a", IfName: "eth0"}, {Network: "lab", ContainerID: "a", IfName: "eth1"}},
		},
	} {
		got, err := ValidAttachments([]byte(conf(c.keys)), "lab")
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v, want %+v", c.keys, got, err, c.want)
		}
	}
	for _, c := range []struct {
		stdin string
		code  cnierr.Code
	}{
		{conf(``), 7},
		{conf(`"cni.dev/attachments": []`), 7},
		{conf(`"cni.dev/valid-attachments": {}`), 6},
		{conf(`"cni.dev/valid-attachments": [null]`), 6},
		{conf(`"cni.dev/valid-attachments": ["a"]`), 6},
		{conf(`"cni.dev/valid-attachments": [{"containerID": 1, "ifname": "eth0"}]`), 6},
		{conf(`"cni.dev/valid-attachments": [{"containerID": "a"}]`), 7},
		{conf(`"cni.dev/valid-attachments": [{"containerID": "a", "ifname": ""}]`), 7},
		{conf(`"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "b"}], "cni.dev/valid-attachments": []`), 6},
		{``, 6},
	} {
		got, err := ValidAttachments([]byte(c.stdin), "lab")
		if got != nil || err == nil {
			t.Errorf("%s: got %v, %v, want an error alone", c.stdin, got, err)
			continue
		}
		if e := refused(t, err); e.Code != c.code {
			t.Errorf("%s: got %d %q, want %d", c.stdin, e.Code, e.Msg, c.code)
		}
	}
}
