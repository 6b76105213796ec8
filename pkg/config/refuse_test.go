package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// conf is a configuration with the given keys, and those that each one needs.
func conf(keys string) string {
	if keys != "" {
		keys = ", " + keys
	}
	return `{"cniVersion": "1.1.0", "name": "lab"` + keys + `}`
}

func parseTap(stdin string, rt Runtime) error {
	_, err := ParseTap([]byte(stdin), rt)
	return err
}

func parseBridge(stdin string, rt Runtime) error {
	_, err := ParseBridge([]byte(stdin), rt)
	return err
}

// refused holds an error to what every error of this package promises.
func refused(t *testing.T, err error) *cnierr.Error {
	t.Helper()
	var e *cnierr.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a cnierr.Error", err)
	}
	if e.Msg == "" || e.Msg[0] == '.' || strings.ContainsAny(e.Msg, "\n\r\u2028\u2029") || len(e.Msg) > 300 {
		t.Errorf("message is not one short line: %q", e.Msg)
	}
	if e.Details == "" || strings.ContainsAny(e.Details, "\n\r\u2028\u2029") {
		t.Errorf("details are not one line: %q", e.Details)
	}
	return e
}

// parser is one of the two plugins' strict parsers.
type parser func(string, Runtime) error

var (
	tap    = []parser{parseTap}
	bridge = []parser{parseBridge}
	both   = []parser{parseTap, parseBridge}
)

func TestRefuse(t *testing.T) {
	long := strings.Repeat("x", 1000)
	const v4, v6 = `"ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}`, `"ipam": {"type": "host-local", "subnet": "fd00::/64"}`
	prev := func(s string) string { return conf(`"prevResult": ` + s) }

	for _, c := range []struct {
		parse   []parser
		stdin   string
		code    cnierr.Code
		msg     string
		details string
	}{
		// JSON
		{both, ``, 6, "configuration is empty", "one JSON object"},
		{both, " \n", 6, "configuration is empty", "one JSON object"},
		{both, `{`, 6, "not JSON: unexpected end", "one JSON object"},
		{both, conf(``) + `}`, 6, "not JSON: invalid character '}'", "one JSON object"},
		{both, `{"name": "lab",}`, 6, "at byte", "one JSON object"},
		{both, `[]`, 6, "configuration is a list", "one JSON object"},
		{both, `"lab"`, 6, "configuration is a string", "one JSON object"},
		{both, `null`, 6, "configuration is null", "one JSON object"},
		{both, conf(`"mtu": 1500, "mtu": 9000`), 6, `"mtu" is there twice`, "remove one"},
		{bridge, conf(`"bridge": "br0", "bridge": "br0"`), 6, `"bridge" is there twice`, "remove one"},

		// Version and name
		{both, `{"name": "lab"}`, 1, "cniVersion is missing, which means 0.1.0", "0.3.0"},
		{both, `{"name": "lab", "cniVersion": "0.1.0"}`, 1, "0.1.0: results of that version cannot name interfaces", "1.1.0"},
		{both, `{"name": "lab", "cniVersion": "0.2.0"}`, 1, "0.2.0: results", "1.1.0"},
		{both, `{"name": "lab", "cniVersion": "2.0.0"}`, 1, `"2.0.0" is not supported`, "1.1.0"},
		{both, `{"name": "lab", "cniVersion": "1.1"}`, 1, `"1.1" is not supported`, "1.1.0"},
		{both, `{"name": "lab", "cniVersion": 1.1}`, 6, "cniVersion: want a string, got a number", "quotes"},
		{both, `{"cniVersion": "1.1.0"}`, 7, "name is missing", `"name"`},
		{both, `{"cniVersion": "1.1.0", "name": "a/b"}`, 7, `"a/b" is not a network name`, "letter"},
		{both, `{"cniVersion": "1.1.0", "name": "a\nb"}`, 7, `"a\nb" is not a network name`, "letter"},
		{both, `{"cniVersion": "1.1.0", "name": {}}`, 6, "name: want a string, got an object", "quotes"},
		{both, conf(`"type": 5`), 6, "type: want a string, got a number", "quotes"},

		// Keys
		{bridge, conf(`"brigde": "br0"`), 2, `unknown key "brigde" with value "br0"`, `did you mean "bridge"?`},
		{bridge, conf(`"Bridge": "br0"`), 2, `unknown key "Bridge"`, `did you mean "bridge"?`},
		{bridge, conf(`"isGateWay": true`), 2, `"isGateWay" with value true`, `did you mean "isGateway"?`},
		{bridge, conf(`"enableDad": true`), 2, `"enableDad"`, `did you mean "enabledad"?`},
		{bridge, conf(`"IPAM": {"type": "static"}`), 2, `"IPAM"`, `did you mean "ipam"?`},
		{bridge, conf(`"brigde": null`), 2, `with value null`, `did you mean "bridge"?`},
		{bridge, conf(`"vlanTrunc": [1]`), 2, `"vlanTrunc"`, `did you mean "vlanTrunk"?`},
		{bridge, conf(`"macspofchk": true`), 2, `"macspofchk"`, `did you mean "macspoofchk"?`},
		{bridge, conf(`"ipMask": true`), 2, `"ipMask"`, `did you mean "ipMasq"?`},
		{tap, conf(`"onwer": 1000`), 2, `"onwer" with value 1000`, `did you mean "owner"?`},
		{tap, conf(`"multiqueue": true`), 2, `"multiqueue"`, `did you mean "multiQueue"?`},
		{tap, conf(`"frobnicate": 1`), 2, `"frobnicate"`, "microvm-tap knows cniVersion, name"},
		{bridge, conf(`"frobnicate": 1`), 2, `"frobnicate"`, "microvm-bridge knows cniVersion, name"},
		{tap, conf(`"bridge": "br0"`), 2, `"bridge" with value "br0"`, "belongs to microvm-bridge: move it there"},
		{tap, conf(v4), 2, `"ipam"`, "belongs to microvm-bridge"},
		{tap, conf(`"ipMasq": true`), 2, `"ipMasq" with value true`, "belongs to microvm-bridge: move it there"},
		{tap, conf(`"macspoofchk": true`), 2, `"macspoofchk" with value true`, "belongs to microvm-bridge"},
		{bridge, conf(`"owner": "microvm"`), 2, `"owner" with value "microvm"`, "belongs to microvm-tap: move it there"},
		{bridge, conf(`"mac": "02:00:00:00:00:01"`), 2, `"mac"`, "belongs to microvm-tap"},
		{both, conf(`"` + long + `": 1`), 2, `xxx..."`, "knows"},
		{both, conf(`"secret": "` + long + `"`), 2, `xxx...`, "knows"},
		{both, conf(`"a\nb": "c\u2028d"`), 2, `"a\nb"`, "knows"},

		// Masquerading
		{bridge, conf(`"ipMasq": true`), 7, `ipMasq: without ipam`, "add an ipam section, or remove ipMasq"},
		{bridge, conf(`"ipMasq": "yes"`), 6, `ipMasq`, ""},
		{bridge, conf(`"ipMasqBackend": "ebtables"`), 7, `"ebtables" is not a backend`, `say "nftables"`},
		{bridge, conf(`"ipMasqBackend": true`), 6, `ipMasqBackend`, ""},

		// VLANs
		{bridge, conf(`"vlan": 4095`), 7, `vlan: 4095 is out of range`, "0 to 4094"},
		{bridge, conf(`"vlan": -1`), 7, `vlan: -1 is out of range`, "0 to 4094"},
		{bridge, conf(`"vlan": 1.5`), 6, `vlan: want a whole number`, ""},
		{bridge, conf(`"vlan": "100"`), 6, `vlan: want a number, got a string`, ""},
		{bridge, conf(`"vlanTrunk": {"id": 5}`), 6, `vlanTrunk: want a list of objects`, ""},
		{bridge, conf(`"vlanTrunk": [5]`), 6, `vlanTrunk[0]: want an object`, ""},
		{bridge, conf(`"vlanTrunk": [{"id": 5}, {}]`), 7, `vlanTrunk[1]: names no VLAN`, `{"id": 100}`},
		{bridge, conf(`"vlanTrunk": [{"id": 0}]`), 7, `vlanTrunk[0].id: 0 is out of range`, "1 to 4094"},
		{bridge, conf(`"vlanTrunk": [{"id": 4095}]`), 7, `vlanTrunk[0].id: 4095`, "1 to 4094"},
		{bridge, conf(`"vlanTrunk": [{"minID": 0, "maxID": 5}]`), 7, `minID: 0 is out of range`, "1 to 4094"},
		{bridge, conf(`"vlanTrunk": [{"minID": 5, "maxID": 5000}]`), 7, `maxID: 5000 is out of range`, "1 to 4094"},
		{bridge, conf(`"vlanTrunk": [{"minID": 5}]`), 7, `only one is there`, "give both"},
		{bridge, conf(`"vlanTrunk": [{"id": 7, "maxID": 5}]`), 7, `only one is there`, "give both"},
		{bridge, conf(`"vlanTrunk": [{"minID": 6, "maxID": 5}]`), 7, `minID 6 is more than maxID 5`, "smaller"},
		{bridge, conf(`"vlanTrunk": [{"ID": 6}]`), 2, `vlanTrunk[0]: unknown key "ID"`, "minID"},
		{bridge, conf(`"preserveDefaultVlan": 1`), 6, `preserveDefaultVlan`, ""},

		// Keys of later versions
		{bridge, conf(`"uplink": ""`), 7, `uplink`, ""},
		{bridge, conf(`"uplink": "eth0/1"`), 7, `uplink`, ""},
		{bridge, conf(`"uplink": ["eth1"]`), 6, `uplink`, ""},
		{bridge, conf(`"bridge": "br7", "uplink": "br7"`), 7, `uplink: "br7" is the bridge itself`, "a NIC of the host"},
		{bridge, conf(`"bandwidth": {"ingressRate": 1}`), 2, `"bandwidth"`, "remove the key"},
		{bridge, conf(`"ingresRate": 1000`), 2, `"ingresRate"`, `did you mean "ingressRate"?`},
		{bridge, conf(`"runtimeConfig": {"bandwidth": {"ingressrate": 1000}}`), 2, `"ingressrate" in runtimeConfig.bandwidth`, `did you mean "ingressRate"?`},
		{bridge, conf(`"runtimeConfig": {"bandwidth": {"burst": 1000}}`), 2, `"burst" in runtimeConfig.bandwidth`, "limits nothing"},
		{bridge, conf(`"runtimeConfig": {"bandwidth": [1]}`), 6, "runtimeConfig.bandwidth: want an object, got a list", "write it as"},
		{bridge, conf(`"runtimeConfig": {"bandwidth": {"ingressRate": -1}}`), 7, "runtimeConfig.bandwidth.ingressRate: -1 is out of range", "bits"},
		{bridge, conf(`"egressBurst": "1M"`), 6, "egressBurst: want a number, got a string", "without quotes"},
		{bridge, conf(`"egressRate": 1e6`), 6, "egressRate: want a whole number, got 1e6", "without"},
		{bridge, conf(`"shapedSubnets": ["10.0.0.1"]`), 7, `shapedSubnets: "10.0.0.1" is not a subnet`, "10.0.0.0/8"},
		{bridge, conf(`"unshapedSubnets": "10.0.0.0/8"`), 6, "unshapedSubnets: want a list of strings", "write it as"},
		{tap, conf(`"ingressRate": 1000`), 2, `"ingressRate"`, "belongs to microvm-bridge"},
		{bridge, conf(`"disableContainerInterface": true`), 2, "makes no sense for a VM", "guest's own"},
		{tap, conf(`"runtimeConfig": {"bandwidth": {"ingressRate": 1000}}`), 2, `runtimeConfig.bandwidth with value {"ingressRate":1000}`, "to microvm-bridge"},

		// Types
		{both, conf(`"mtu": "1500"`), 6, "mtu: want a number, got a string", "without quotes"},
		{both, conf(`"mtu": "many"`), 6, "mtu: want a number, got a string", "without quotes"},
		{both, conf(`"mtu": true`), 6, "mtu: want a number, got true or false", "without quotes"},
		{both, conf(`"mtu": 1500.5`), 6, "mtu: want a whole number, got 1500.5", "whole"},
		{both, conf(`"mtu": 15e2`), 6, "mtu: want a whole number, got 15e2", "whole"},
		{tap, conf(`"multiQueue": "yes"`), 6, "multiQueue: want true or false, got a string", "without quotes"},
		{tap, conf(`"multiQueue": 2`), 6, "multiQueue: want true or false, got a number", "without quotes"},
		{tap, conf(`"mac": 5`), 6, "mac: want a string, got a number", "quotes"},
		{tap, conf(`"owner": true`), 6, "owner: want a name or a number, got true or false", "name"},
		{tap, conf(`"owner": 1.5`), 6, "owner: want a whole number, got 1.5", "number"},
		{tap, conf(`"placement": []`), 6, "placement: want a string, got a list", "quotes"},
		{bridge, conf(`"bridge": 5`), 6, "bridge: want a string, got a number", "quotes"},
		{bridge, conf(`"bridgeMode": true`), 6, "bridgeMode: want a string", "quotes"},
		{bridge, conf(`"isGateway": "true"`), 6, "isGateway: want true or false, got a string", "without quotes"},
		{bridge, conf(`"ipam": "host-local"`), 6, "ipam: want an object, got a string", "{"},
		{bridge, conf(`"ipam": []`), 6, "ipam: want an object, got a list", "{"},
		{bridge, conf(`"ipam": {"type": 5}`), 6, "ipam.type: want a string, got a number", "quotes"},
		{bridge, conf(`"ipamCheck": "no"`), 6, "ipamCheck: want true or false", "without quotes"},
		{bridge, conf(`"dns": []`), 6, "dns: want an object, got a list", "{"},
		{bridge, conf(`"dns": {"nameservers": "10.0.0.1"}`), 6, "dns.nameservers: want a list of strings, got a string", "["},
		{both, conf(`"capabilities": true`), 6, "capabilities: want an object", "{"},
		{both, conf(`"capabilities": {"mac": "yes"}`), 6, "capabilities.mac: want true or false", "without quotes"},
		{bridge, conf(`"capabilities": {"ips": 1}`), 6, "capabilities.ips: want true or false", "without quotes"},
		{both, conf(`"runtimeConfig": []`), 6, "runtimeConfig: want an object, got a list", "{"},
		{both, conf(`"runtimeConfig": {"mac": 1}`), 6, "runtimeConfig.mac: want a string", "quotes"},
		{bridge, conf(`"runtimeConfig": {"ips": "10.0.0.1"}`), 6, "runtimeConfig.ips: want a list of strings", "["},
		{both, conf(`"args": 1`), 6, "args: want an object", "{"},
		{both, conf(`"args": {"cni": 1}`), 6, "args.cni: want an object", "{"},
		{both, conf(`"args": {"cni": {"mac": {}}}`), 6, "args.cni.mac: want a string", "quotes"},

		// Ranges
		{both, conf(`"mtu": 67`), 7, "mtu: 67 is out of range", "from 68 to 65521"},
		{both, conf(`"mtu": 65522`), 7, "mtu: 65522 is out of range", "bytes"},
		{both, conf(`"mtu": -1`), 7, "mtu: -1 is out of range", "68"},
		{both, conf(`"mtu": 99999999999999999999`), 7, "mtu: 99999999999999999999 is out of range", "68"},
		{tap, conf(`"txQueueLen": 0`), 7, "txQueueLen: 0 is out of range", "packets from 1 to 100000"},
		{tap, conf(`"txQueueLen": 100001`), 7, "txQueueLen: 100001", "packets"},
		{tap, conf(`"owner": -1`), 7, "owner: -1 is out of range", "4294967294"},
		{tap, conf(`"owner": 4294967295`), 7, `owner "4294967295" is out of range`, "4294967294"},
		{tap, conf(`"group": 99999999999999999999`), 7, "is out of range", "4294967294"},
		{tap, conf(`"owner": ""`), 7, `owner "" is empty`, "name"},
		{tap, conf(`"owner": "a:b"`), 7, `owner "a:b" is neither`, "name"},
		{tap, conf(`"group": "-5"`), 7, `group "-5" is neither`, "name"},
		{tap, conf(`"placement": "Host"`), 7, `"Host" is not a placement`, `"host"`},
		{tap, conf(`"selinuxContext": "a b"`), 7, "selinuxContext", "svirt_t"},
		{tap, conf(`"selinuxContext": "a\u0000"`), 7, "selinuxContext", "svirt_t"},

		// MAC addresses
		{tap, conf(`"mac": "02:00:00:00:00"`), 7, `mac: "02:00:00:00:00" is not a MAC address`, "6 bytes"},
		{tap, conf(`"mac": "02:00:00:00:00:00:00:01"`), 7, "is not a MAC address of 6 bytes", "6 bytes"},
		{tap, conf(`"mac": "00:00:00:00:00:00"`), 7, "is no address at all", "6 bytes"},
		{tap, conf(`"mac": "01:00:5e:00:00:01"`), 7, "is a multicast address", "must be 0"},
		{tap, conf(`"mac": "ff:ff:ff:ff:ff:ff"`), 7, "is a multicast address", "must be 0"},
		{tap, conf(`"mac": "fe:00:00:00:00:01"`), 7, "begins with fe", "such as 02"},
		{both, conf(`"runtimeConfig": {"mac": "nope"}`), 7, `runtimeConfig.mac: "nope"`, "6 bytes"},
		{both, conf(`"args": {"cni": {"mac": "nope"}}`), 7, `args.cni.mac: "nope"`, "6 bytes"},
		{both, conf(`"args": {"cni": {"mac": "nope"}}, "runtimeConfig": {"mac": "02:00:00:00:00:01"}`), 7, `args.cni.mac: "nope"`, "6 bytes"},

		// Names
		{bridge, conf(`"bridge": ""`), 7, `bridge "" is empty`, "1 to 15 bytes"},
		{bridge, conf(`"bridge": "sixteen-bytes-xx"`), 7, "16 bytes long", "15"},
		{bridge, conf(`"bridge": "br/0"`), 7, `contains '/'`, "without"},
		{bridge, conf(`"bridge": "br:0"`), 7, `contains ':'`, "without"},
		{bridge, conf(`"bridge": "br%d"`), 7, `contains '%'`, "without"},
		{bridge, conf(`"bridge": "br 0"`), 7, "contains white space", "without"},
		{bridge, conf(`"bridge": "br\n0"`), 7, "contains white space", "without"},
		{bridge, conf(`"bridge": "br\u00a00"`), 7, "contains white space", "without"},
		{bridge, conf(`"bridge": "br\u00010"`), 7, "does not print", "without"},
		{bridge, conf(`"bridge": "br\u200b0"`), 7, "does not print", "without"},
		{bridge, conf("\"bridge\": \"br\xff\""), 7, "is not UTF-8", "without"},
		{bridge, conf(`"bridge": "."`), 7, "reserved by the kernel", "without"},
		{bridge, conf(`"bridge": ".."`), 7, "reserved by the kernel", "without"},
		{bridge, conf(`"bridge": "all"`), 7, "reserved by the kernel", "without"},
		{bridge, conf(`"bridge": "default"`), 7, "reserved by the kernel", "without"},
		{bridge, conf(`"bridge": "` + long + `"`), 7, "1000 bytes long", "15"},

		// Things that make no sense together
		{bridge, conf(`"bridgeMode": "auto"`), 7, `"auto" is not a mode`, `"existing"`},
		{bridge, conf(`"bridgeMode": "existing"`), 7, "bridge is missing", `"bridge": "br0"`},
		{bridge, conf(`"bridgeMode": "existing", "bridge": "br0", "isGateway": true, ` + v4), 7, "isGateway: a bridge with", "systemd-networkd"},
		{bridge, conf(`"bridgeMode": "existing", "bridge": "br0", "isDefaultGateway": true, ` + v4), 7, "isDefaultGateway: a bridge with", "systemd-networkd"},
		{bridge, conf(`"bridgeMode": "existing", "bridge": "br0", "forceAddress": true`), 7, "forceAddress: a bridge with", "systemd-networkd"},
		{bridge, conf(`"bridgeMode": "existing", "bridge": "br0", "promiscMode": true`), 7, "promiscMode: a bridge with", "systemd-networkd"},
		{bridge, conf(`"isGateway": true`), 7, "isGateway: without ipam", "ipam section"},
		{bridge, conf(`"isDefaultGateway": true, "ipam": {}`), 7, "isGateway: without ipam", "ipam section"},
		{bridge, conf(`"hairpinMode": true, "promiscMode": true`), 7, "exclude each other", "remove one"},
		{bridge, conf(`"mtu": 1279, ` + v6), 7, "mtu: 1279 is too small for IPv6", "1280"},

		// IPAM and DNS
		{bridge, conf(`"ipam": {"subnet": "10.0.0.0/24"}`), 7, "ipam.type is missing", "host-local"},
		{bridge, conf(`"ipam": {"type": ""}`), 7, "ipam.type is missing", "host-local"},
		{bridge, conf(`"ipam": {"type": "../../bin/sh"}`), 7, `"../../bin/sh" is not the name of a plugin`, "bare name"},
		{bridge, conf(`"ipam": {"type": "a\\b"}`), 7, "is not the name of a plugin", "bare name"},
		{bridge, conf(`"ipam": {"type": ".."}`), 7, "is not the name of a plugin", "bare name"},
		{bridge, conf(`"ipam": {"type": "a\nb"}`), 7, "is not the name of a plugin", "bare name"},
		{bridge, conf(`"ipam": {"type": "dhcp"}`), 7, "dhcp cannot work for a VM", "host-local, static or whereabouts"},
		{bridge, conf(`"dns": {"nameservers": ["example.org"]}`), 7, `dns.nameservers: "example.org" is not an IP address`, "IP addresses"},
		{bridge, conf(`"dns": {"nameservers": ["10.0.0.1/24"]}`), 7, `"10.0.0.1/24" is not an IP address`, "IP addresses"},
		{bridge, conf(`"dns": {"nameservers": ["fe80::1%eth0"]}`), 7, "is not an IP address", "IP addresses"},
		{bridge, conf(`"dns": {"nameserver": ["10.0.0.1"]}`), 2, `unknown key "nameserver" in dns`, `did you mean "nameservers"?`},
		{bridge, conf(`"dns": {"frobnicate": 1}`), 2, `unknown key "frobnicate" in dns`, "dns knows"},
		{bridge, conf(`"runtimeConfig": {"ips": ["nope"]}`), 7, `runtimeConfig.ips: "nope" is not an IP address`, "/length"},
		{bridge, conf(`"args": {"cni": {"ips": ["10.0.0.300"]}}`), 7, `args.cni.ips: "10.0.0.300"`, "/length"},

		// prevResult
		{both, prev(`[]`), 6, "prevResult: want an object, got a list", "earlier plugin"},
		{both, prev(`{"interfaces": {}}`), 6, "must be lists", "earlier plugin"},
		{both, prev(`{"interfaces": [null]}`), 6, "there is a null", "earlier plugin"},
		{both, prev(`{"ips": [null]}`), 6, "there is a null", "earlier plugin"},
		{both, prev(`{"ips": [{}]}`), 6, "ips[0] has no address", "earlier plugin"},
		{both, prev(`{"ips": [{"address": "10.0.0.5"}]}`), 6, "not a result of cniVersion 1.1.0", "earlier plugin"},
		{both, prev(`{"ips": [{"address": "10.0\n` + long + `"}]}`), 6, "not a result", "earlier plugin"},
		{both, prev(`{"ips": [{"address": "10.0.0.5/24", "interface": 0}]}`), 6, "ips[0] is on interface 0, of 0", "earlier plugin"},
		{both, prev(`{"routes": [{"gw": "10.0.0.1"}]}`), 6, "routes[0] has no destination", "earlier plugin"},
		{both, prev(`{"cniVersion": "0.4.0"}`), 6, "not a result of cniVersion 1.1.0", "earlier plugin"},
		{both, `{"cniVersion": "0.4.0", "name": "lab", "prevResult": {"interfaces": [null]}}`, 6, "there is a null", "earlier plugin"},
	} {
		for _, parse := range c.parse {
			err := parse(c.stdin, Runtime{})
			if err == nil {
				t.Errorf("%.200s: no error, want %q", c.stdin, c.msg)
				continue
			}
			e := refused(t, err)
			if e.Code != c.code || !strings.Contains(e.Msg, c.msg) || !strings.Contains(e.Details, c.details) {
				t.Errorf("%.200s:\ngot  %d %q, %q\nwant %d %q, %q", c.stdin, e.Code, e.Msg, e.Details, c.code, c.msg, c.details)
			}
		}
	}
}

func TestRefuseArgs(t *testing.T) {
	for _, c := range []struct{ args, msg, details string }{
		{"MAC", `"MAC" is not KEY=value`, "KEY=value;KEY=value"},
		{"=x", `"=x" is not KEY=value`, "KEY=value"},
		{"MAC=02:00:00:00:00:01;", `"" is not KEY=value`, "without a semicolon"},
		{"K8S_POD=a=b;IgnoreUnknown=1", `"K8S_POD=a=b" is not KEY=value`, "KEY=value"},
		{"IP=10.0.0.5;IP=10.0.0.6", `"IP" is there twice`, "remove one"},
		{"FOO=1;FOO=1;IgnoreUnknown=1", `"FOO" is there twice`, "remove one"},
		{"TAPNAME=x", `unknown argument "TAPNAME"`, "did you mean TAP_NAME?"},
		{"mac=02:00:00:00:00:01", `unknown argument "mac"`, "did you mean MAC?"},
		{"K8S_POD_NAME=web", `unknown argument "K8S_POD_NAME"`, "IgnoreUnknown=1"},
		{"K8S_POD_NAME=web;IgnoreUnknown=0", `unknown argument "K8S_POD_NAME"`, "IgnoreUnknown=1"},
		{"IgnoreUnknown=yes", `IgnoreUnknown: "yes" is neither true nor false`, "1 or 0"},
		{"MAC=02:00", `CNI_ARGS MAC: "02:00" is not a MAC address`, "6 bytes"},
		{"MAC=03:00:00:00:00:01", "CNI_ARGS MAC: 03:00:00:00:00:01 is a multicast address", "must be 0"},
		{"TAP_NAME=", `CNI_ARGS TAP_NAME "" is empty`, "1 to 15"},
		{"TAP_NAME=tap%d", `CNI_ARGS TAP_NAME "tap%d" contains '%'`, "without"},
		{"TAP_NAME=a\nb", `"a\nb" contains white space`, "without"},
		{"TAP_NAME=\xff", "is not UTF-8", "without"},
		{"TC_REDIRECT_TAP_NAME=../x", `TC_REDIRECT_TAP_NAME "../x" contains '/'`, "without"},
		{"TAP_OWNER=", `CNI_ARGS TAP_OWNER "" is empty`, "4294967294"},
		{"TAP_OWNER=-1", `"-1" is neither`, "4294967294"},
		{"TC_REDIRECT_TAP_UID=4294967295", "is out of range", "4294967294"},
		{"TAP_GROUP=a b", `"a b" is neither`, "4294967294"},
		{"TAP_NAME=a;TC_REDIRECT_TAP_NAME=b", "TAP_NAME and TC_REDIRECT_TAP_NAME differ", "give one"},
		{"TC_REDIRECT_TAP_UID=1;TAP_OWNER=2", "TC_REDIRECT_TAP_UID and TAP_OWNER differ", "give one"},
		{"TAP_GROUP=1;TC_REDIRECT_TAP_GID=2", "TAP_GROUP and TC_REDIRECT_TAP_GID differ", "give one"},
		{"IP=nope", `CNI_ARGS IP: "nope" is not an IP address`, "/length"},
		{"IP=10.0.0.5,", `CNI_ARGS IP: "" is not an IP address`, "/length"},
		{"IP=fe80::1%eth0", "is not an IP address", "/length"},
		{"GATEWAY=10.0.0", `CNI_ARGS GATEWAY: "10.0.0" is not an IP address`, "/length"},
	} {
		for _, parse := range both {
			err := parse(conf(""), Runtime{Args: c.args})
			if err == nil {
				t.Errorf("%q: no error, want %q", c.args, c.msg)
				continue
			}
			e := refused(t, err)
			if e.Code != cnierr.Environment || !strings.Contains(e.Msg, c.msg) || !strings.Contains(e.Details, c.details) {
				t.Errorf("%q:\ngot  %d %q, %q\nwant 4 %q, %q", c.args, e.Code, e.Msg, e.Details, c.msg, c.details)
			}
		}
	}
}

func TestRefuseRuntime(t *testing.T) {
	for _, c := range []struct{ id, ifName, msg string }{
		{"", "eth0", "CNI_CONTAINERID is missing"},
		{"-vm", "eth0", `CNI_CONTAINERID "-vm" is not a container ID`},
		{"a/b", "eth0", `"a/b"`},
		{"a b", "eth0", `"a b"`},
		{"vm\n", "eth0", `"vm\n"`},
		{"vm", "", `CNI_IFNAME "" is empty`},
		{"vm", "eth0/1", "contains '/'"},
		{"vm", "eth0:1", "contains ':'"},
		{"vm", "eth%d", "contains '%'"},
		{"vm", "eth 0", "contains white space"},
		{"vm", "..", "is reserved by the kernel"},
		{"vm", "all", "is reserved by the kernel"},
		{"vm", "sixteen-bytes-xx", "16 bytes long"},
	} {
		err := CheckRuntime(Runtime{ContainerID: c.id, IfName: c.ifName})
		if err == nil {
			t.Errorf("%q, %q: no error, want %q", c.id, c.ifName, c.msg)
			continue
		}
		if e := refused(t, err); e.Code != cnierr.Environment || !strings.Contains(e.Msg, c.msg) {
			t.Errorf("%q, %q: got %d %q, want 4 %q", c.id, c.ifName, e.Code, e.Msg, c.msg)
		}
	}
	good := []Runtime{
		{ContainerID: "vm", IfName: "eth0"},
		{ContainerID: "0_a.b-" + strings.Repeat("c", 300), IfName: "br.lan"},
		{ContainerID: "vm", IfName: "fifteen-bytes-x"},
	}
	for _, rt := range good {
		if err := CheckRuntime(rt); err != nil {
			t.Errorf("%+v: %v", rt, err)
		}
	}
}

// No error may hand out what a configuration keeps for another plugin.
func TestSecretsStay(t *testing.T) {
	secret := strings.Repeat("s", 40) + "ecret"
	for _, stdin := range []string{
		conf(`"etcd": {"endpoints": ["` + strings.Repeat("e", 60) + `"], "password": "` + secret + `"}`),
		conf(`"ipam": {"type": 5, "password": "` + secret + `"}`),
		conf(`"dns": ["` + strings.Repeat("d", 60) + `", "` + secret + `"]`),
		conf(`"mtu": "` + secret + `"`),
		conf(`"etcd": "` + secret + `", "mtu": 1,}`),
	} {
		for _, parse := range both {
			e := refused(t, parse(stdin, Runtime{}))
			if strings.Contains(e.Msg+e.Details, "ecret") {
				t.Errorf("%q, %q gives the secret away", e.Msg, e.Details)
			}
		}
	}
}
