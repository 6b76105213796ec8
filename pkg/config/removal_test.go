package config

import (
	"reflect"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// What ADD refuses, or a newer version wrote, must not keep DEL from cleaning up.
func TestRemovalIsLenient(t *testing.T) {
	for _, keys := range []string{
		``,
		`"frobnicate": true`,
		`"mtu": "many", "mtu": -1`,
		`"owner": {}, "group": [], "multiQueue": 5, "mac": 7, "txQueueLen": false, "isGateway": "yes", "dns": 5`,
		`"ipMasq": true, "vlan": 4095, "vlanTrunk": 5, "guard": {"mode": "enforce"}, "uplink": "eth1"`,
		`"capabilities": 5, "runtimeConfig": {"mac": 5, "bandwidth": {"ingressRate": 1}}, "args": []`,
		`"prevResult": 5`,
		`"prevResult": {"interfaces": [null]}`,
		`"prevResult": {"cniVersion": "9.9.9"}`,
		`"placement": "elsewhere"`,
	} {
		for _, args := range []string{"", "MAC=nope;TAP_NAME=a/b;x;;=;IP=nope;IP=nope;TAP_OWNER=;TAPNAME=y;IgnoreUnknown=perhaps"} {
			tap, err := TapForRemoval([]byte(conf(keys)), Runtime{Args: args})
			if err != nil {
				t.Fatalf("tap, %s: %v", keys, err)
			}
			if want := (Tap{Common: lab, Placement: "host"}); !reflect.DeepEqual(*tap, want) {
				t.Errorf("tap, %s: got %+v, want %+v", keys, *tap, want)
			}
			bridge, err := BridgeForRemoval([]byte(conf(keys)), Runtime{Args: args})
			if err != nil {
				t.Fatalf("bridge, %s: %v", keys, err)
			}
			if want := (Bridge{Common: lab, Bridge: "cni0"}); !reflect.DeepEqual(*bridge, want) {
				t.Errorf("bridge, %s: got %+v, want %+v", keys, *bridge, want)
			}
		}
	}
}

func TestTapForRemoval(t *testing.T) {
	got, err := TapForRemoval([]byte(`{"name": "lab", "cniVersion": "0.4.0", "placement": "netns", "prevResult": {"interfaces": [{"name": "tap0"}]}}`),
		Runtime{Args: "x;TC_REDIRECT_TAP_NAME=vm1;FOO=1"})
	if err != nil {
		t.Fatal(err)
	}
	if got.CNIVersion != "0.4.0" || got.Placement != "netns" || got.TapName != "vm1" || got.PrevResult == nil || got.PrevResult.Interfaces[0].Name != "tap0" {
		t.Errorf("got %+v", got)
	}
}

func TestBridgeForRemoval(t *testing.T) {
	ipam := func(name string) *IPAM { return &IPAM{Type: name, Check: true} }
	for _, c := range []struct {
		keys, args string
		want       Bridge
	}{
		{`"bridge": "br0"`, "", Bridge{Common: lab, Bridge: "br0"}},
		{`"bridge": "br0", "bridgeMode": "create"`, "", Bridge{Common: lab, Bridge: "br0"}},
		{`"bridge": "br0", "bridgeMode": "existing"`, "", Bridge{Common: lab, Bridge: "br0", Existing: true}},
		{`"bridge": "br0", "bridgeMode": "of a newer version"`, "", Bridge{Common: lab, Bridge: "br0", Existing: true}},
		{`"bridge": "br0", "bridgeMode": 5`, "", Bridge{Common: lab, Bridge: "br0", Existing: true}},
		{`"bridgeMode": "existing"`, "", Bridge{Common: lab, Existing: true}},
		{`"bridge": 5`, "", Bridge{Common: lab}},
		{`"bridge": "../br0"`, "", Bridge{Common: lab}},
		{`"ipMasqBackend": "iptables"`, "", Bridge{Common: lab, Bridge: "cni0", IPTables: true}},
		{`"ipMasq": 5, "ipMasqBackend": 5`, "", Bridge{Common: lab, Bridge: "cni0"}},
		{`"ipam": {}`, "", Bridge{Common: lab, Bridge: "cni0"}},
		{`"ipam": "host-local"`, "", Bridge{Common: lab, Bridge: "cni0"}},
		{`"ipam": {"type": 5}`, "", Bridge{Common: lab, Bridge: "cni0"}},
		{`"ipam": {"type": "dhcp"}`, "", Bridge{Common: lab, Bridge: "cni0"}},
		{`"ipam": {"type": "host-local", "ranges": "nonsense"}`, "", Bridge{Common: lab, Bridge: "cni0", IPAM: ipam("host-local")}},
		{
			`"ipam": {"type": "host-local"}`, "TAP_NAME=x;IP=10.0.0.5;FOO=1;IgnoreUnknown=1;bad",
			Bridge{Common: lab, Bridge: "cni0", IPAM: ipam("host-local"), DelegateArgs: "IP=10.0.0.5;FOO=1;IgnoreUnknown=1"},
		},
		{
			`"ipam": {"type": "host-local"}`, "FOO=1;IP=10.0.0.5",
			Bridge{Common: lab, Bridge: "cni0", IPAM: ipam("host-local"), DelegateArgs: "IP=10.0.0.5"},
		},
	} {
		got, err := BridgeForRemoval([]byte(conf(c.keys)), Runtime{Args: c.args})
		if err != nil {
			t.Errorf("%s: %v", c.keys, err)
			continue
		}
		if !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s, %s:\ngot  %+v\nwant %+v", c.keys, c.args, *got, c.want)
		}
	}
}

// What identifies the attachment must be right, and nothing outside of CNI_PATH
// may be run.
func TestRemovalRefuses(t *testing.T) {
	for _, c := range []struct {
		stdin string
		code  cnierr.Code
	}{
		{``, 6},
		{`{`, 6},
		{`[]`, 6},
		{`{}`, 7},
		{`{"name": 5}`, 6},
		{`{"name": "a/b"}`, 7},
	} {
		_, tap := TapForRemoval([]byte(c.stdin), Runtime{})
		_, bridge := BridgeForRemoval([]byte(c.stdin), Runtime{})
		for _, err := range []error{tap, bridge} {
			if err == nil {
				t.Errorf("%s: no error", c.stdin)
			} else if e := refused(t, err); e.Code != c.code {
				t.Errorf("%s: got %d %q, want %d", c.stdin, e.Code, e.Msg, c.code)
			}
		}
	}
	for _, name := range []string{"../sh", "/bin/sh", "..", `a\\b`} {
		_, err := BridgeForRemoval([]byte(conf(`"ipam": {"type": "`+name+`"}`)), Runtime{})
		if err == nil {
			t.Errorf("ipam.type %s: no error", name)
		} else if e := refused(t, err); e.Code != cnierr.Config {
			t.Errorf("ipam.type %s: got %d %q, want 7", name, e.Code, e.Msg)
		}
	}
}
