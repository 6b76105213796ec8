package config

import (
	"slices"
	"strings"
	"testing"
)

// stdinSeeds lead the fuzzer into every branch of the parsers.
var stdinSeeds = []struct{ why, stdin string }{
	{"nothing at all", ``},
	{"JSON, but no object", `null`},
	{"the smallest configuration", conf(``)},
	{"a key twice", conf(`"mtu": 1, "mtu": 2`)},
	{"every key of the tap", conf(`"owner": "a", "group": 1, "multiQueue": true, "mtu": 1500, "mac": "02:00:00:00:00:01", "selinuxContext": "a", "txQueueLen": 1`)},
	{"every key of the bridge", conf(`"bridge": "br0", "bridgeMode": "create", "isDefaultGateway": true, "ipam": {"type": "static", "addresses": [{"address": "fd00::5/64"}]}, "ipamCheck": false, "dns": {"nameservers": ["10.0.0.1"]}`)},
	{"the other mode", conf(`"bridge": "br0", "bridgeMode": "existing"`)},
	{"what runtimes add", conf(`"capabilities": {"mac": true}, "runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": ["10.0.0.5"], "ipRanges": [[{"subnet": "10.0.0.0/24"}]], "bandwidth": {}}, "args": {"cni": {"mac": "", "ips": []}}`)},
	{"keys of a later version", conf(`"vlanTrunk": [{"minID": 1}], "guard": {}`)},
	{"a misspelled key with a value that is too long to show", conf(`"brigde": "` + strings.Repeat("ä", 50) + `"`)},
	{"a result of the newest version", conf(`"prevResult": {"interfaces": [{"name": "tap0"}], "ips": [{"address": "10.0.0.5/24", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}]}`)},
	{"an older result, which must be converted; nulls would crash that", `{"cniVersion": "0.3.1", "name": "lab", "prevResult": {"interfaces": [null], "ips": [{"version": "4", "address": "10.0.0.5/24"}]}}`},
	{"text that breaks a line inside of an error", conf(`"a\nb": "\u2028"`)},
	{"text that is not UTF-8", conf("\"bridge\": \"\xff\"")},
	{"numbers at the edge", conf(`"mtu": -0, "owner": 4294967295, "txQueueLen": 1e400`)},
	{"a list of valid attachments", conf(`"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "b"}]`)},
}

// argSeeds are CNI_ARGS of the kinds that runtimes send, and their neighbours.
var argSeeds = []string{
	"",                            // none
	";",                           // empty pairs
	"IgnoreUnknown=1;K8S_POD=web", // Kubernetes
	"IP=10.0.0.5/24,fd00::5/64;GATEWAY=10.0.0.1;IgnoreUnknown=1",               // Talos
	"TC_REDIRECT_TAP_NAME=a;TC_REDIRECT_TAP_UID=1;TC_REDIRECT_TAP_GID=2",       // firecracker-containerd
	"TAP_NAME=a;TAP_OWNER=root;TAP_GROUP=kvm;MAC=02:00:00:00:00:01",            // our own
	"TAP_NAME=a;TC_REDIRECT_TAP_NAME=b;TAP_NAME=\xff;MAC=\n;IP=fe80::1%eth0;=", // everything wrong
}

func FuzzParseTap(f *testing.F) {
	fuzzStdin(f, func(t *testing.T, stdin []byte, rt Runtime) {
		t.Helper()
		conf, err := ParseTap(stdin, rt)
		if err != nil {
			_ = refused(t, err)
		} else if conf.Owner == nil && conf.Group == nil {
			t.Error("the tap is anybody's")
		} else if conf.MTU != 0 && (conf.MTU < minMTU || conf.MTU > maxMTU) {
			t.Errorf("mtu %d got through", conf.MTU)
		}
		// What ADD took, DEL must find.
		if removal, rerr := TapForRemoval(stdin, rt); err == nil && (rerr != nil || removal.TapName != conf.TapName || removal.Network != conf.Network) {
			t.Errorf("removal: %+v, %v", removal, rerr)
		} else if rerr != nil {
			_ = refused(t, rerr)
		}
	})
}

func FuzzParseBridge(f *testing.F) {
	fuzzStdin(f, func(t *testing.T, stdin []byte, rt Runtime) {
		t.Helper()
		conf, err := ParseBridge(stdin, rt)
		if err != nil {
			_ = refused(t, err)
		} else if checkName(7, "bridge", conf.Bridge) != nil || conf.Existing && conf.IsGateway || conf.IsGateway && conf.IPAM == nil {
			t.Errorf("got through: %+v", conf)
		}
		removal, rerr := BridgeForRemoval(stdin, rt)
		if rerr != nil {
			_ = refused(t, rerr)
		}
		if err != nil {
			return
		}
		if rerr != nil || removal.Bridge != conf.Bridge || removal.Existing != conf.Existing || removal.DelegateArgs != conf.DelegateArgs ||
			(removal.IPAM == nil) != (conf.IPAM == nil) || conf.IPAM != nil && removal.IPAM.Type != conf.IPAM.Type {
			t.Errorf("removal: %+v, %v, of %+v", removal, rerr, conf)
		}
	})
}

func fuzzStdin(f *testing.F, check func(*testing.T, []byte, Runtime)) {
	f.Helper()
	for _, seed := range stdinSeeds {
		for _, args := range argSeeds {
			f.Add([]byte(seed.stdin), args)
		}
	}
	f.Fuzz(func(t *testing.T, stdin []byte, args string) {
		check(t, stdin, Runtime{Args: args})
		if _, err := ValidAttachments(stdin, "lab"); err != nil {
			_ = refused(t, err)
		}
	})
}

func FuzzParseArgs(f *testing.F) {
	for _, args := range argSeeds {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := ParseArgs(s)
		if err != nil {
			if e := refused(t, err); e.Code != 4 {
				t.Errorf("code %d", e.Code)
			}
		}
		lenient := argsForRemoval(s)
		if err == nil && (args.ForDelegate != lenient.ForDelegate || args.TapName != lenient.TapName) {
			t.Errorf("removal: %+v, of %+v", lenient, args)
		}
		// What is handed on is in order, and none of it is ours.
		again, err := ParseArgs(lenient.ForDelegate)
		if err != nil || again.ForDelegate != lenient.ForDelegate {
			t.Errorf("%q is handed on, which reads as %+v, %v", lenient.ForDelegate, again, err)
		}
		for pair := range pairs(lenient.ForDelegate) {
			if key, _, _ := strings.Cut(pair, "="); slices.Contains(ownArgs, key) {
				t.Errorf("%s is handed on", key)
			}
		}
	})
}
