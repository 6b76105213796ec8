package chain

import (
	"strings"
	"testing"
)

// refusal is an input that a plugin must refuse, the same on every host.
type refusal struct {
	name  string
	verb  string                 // "" for ADD
	env   []string               // more of the environment; "KEY" alone takes one away
	stdin func(good conf) string // nil for a good configuration
	code  uint
	words []string
}

// edit changes a good configuration.
func edit(more conf) func(conf) string {
	return func(good conf) string { return good.with(more).json() }
}

// text is a configuration as it stands.
func verbatim(s string) func(conf) string { return func(conf) string { return s } }

// Both plugins refuse these alike.
var bothRefuse = []refusal{
	// environment
	{"unknown verb", "FROB", nil, nil, 4, []string{"FROB"}},
	{"no container ID", "", []string{"CNI_CONTAINERID"}, nil, 4, []string{"CNI_CONTAINERID"}},
	{"empty container ID", "", []string{"CNI_CONTAINERID="}, nil, 4, []string{"CNI_CONTAINERID"}},
	{"container ID with a slash", "", []string{"CNI_CONTAINERID=a/b"}, nil, 4, nil},
	{"container ID that begins with a dash", "", []string{"CNI_CONTAINERID=-a"}, nil, 4, nil},
	{"no interface name", "", []string{"CNI_IFNAME"}, nil, 4, []string{"CNI_IFNAME"}},
	{"interface name of 16 bytes", "", []string{"CNI_IFNAME=a234567890123456"}, nil, 4, nil},
	{"interface name with a slash", "", []string{"CNI_IFNAME=a/b"}, nil, 4, nil},
	{"interface name with a colon", "", []string{"CNI_IFNAME=a:b"}, nil, 4, nil},
	{"interface name that is a pattern", "", []string{"CNI_IFNAME=tap%d"}, nil, 4, []string{"%"}},
	{"interface name all", "", []string{"CNI_IFNAME=all"}, nil, 4, []string{"all"}},
	{"interface name ..", "", []string{"CNI_IFNAME=.."}, nil, 4, nil},
	{"netns that is no absolute path", "", []string{"CNI_NETNS=vm1"}, nil, 4, []string{"CNI_NETNS", "vm1", "not an absolute path"}},
	{"no netns", "", []string{"CNI_NETNS"}, nil, 4, []string{"CNI_NETNS"}},
	{"netns that is no namespace", "", []string{"CNI_NETNS=/etc/passwd"}, nil, 4, []string{"/etc/passwd"}},
	{"netns that is a directory", "", []string{"CNI_NETNS=/etc"}, nil, 4, []string{"/etc"}},
	{"netns that is another kind of namespace", "", []string{"CNI_NETNS=/proc/self/ns/mnt"}, nil, 4, []string{"/proc/self/ns/mnt"}},
	{"netns that is not there", "", []string{"CNI_NETNS=/run/netns/none"}, nil, 4, []string{"/run/netns/none"}},
	{"no path", "", []string{"CNI_PATH"}, nil, 4, []string{"CNI_PATH"}},
	{"arguments without =", "", []string{"CNI_ARGS=MAC"}, nil, 4, []string{"MAC"}},
	{"arguments with two =", "", []string{"CNI_ARGS=MAC=a=b"}, nil, 4, []string{"MAC"}},
	{"arguments with a semicolon at the end", "", []string{"CNI_ARGS=IP=10.1.0.9;"}, nil, 4, nil},
	{"unknown argument", "", []string{"CNI_ARGS=TAP_NAM=x"}, nil, 4, []string{"TAP_NAM"}},
	{"bad MAC", "", []string{"CNI_ARGS=MAC=02:00:00"}, nil, 4, []string{"02:00:00"}},
	{"multicast MAC", "", []string{"CNI_ARGS=MAC=01:00:00:00:00:01"}, nil, 4, []string{"01:00:00:00:00:01"}},
	{"MAC of taps", "", []string{"CNI_ARGS=MAC=fe:00:00:00:00:01"}, nil, 4, []string{"fe:"}},
	{"bad tap name", "", []string{"CNI_ARGS=TAP_NAME=a/b"}, nil, 4, []string{"TAP_NAME"}},
	{"two tap names", "", []string{"CNI_ARGS=TAP_NAME=a;TC_REDIRECT_TAP_NAME=b"}, nil, 4, []string{"TAP_NAME"}},
	{"bad owner", "", []string{"CNI_ARGS=TAP_OWNER=-1"}, nil, 4, []string{"TAP_OWNER"}},
	// JSON
	{"nothing", "", nil, verbatim(""), 6, nil},
	{"no JSON", "", nil, verbatim("bridge = br0\n"), 6, nil},
	{"half a document", "", nil, verbatim(`{"cniVersion":"1.1.0","name":`), 6, nil},
	{"a list", "", nil, verbatim(`[{"cniVersion":"1.1.0"}]`), 6, nil},
	{"null", "", nil, verbatim("null"), 7, []string{"name"}},
	{"two documents", "", nil, func(c conf) string { return c.json() + c.json() }, 6, nil},
	{"a key twice", "", nil, func(c conf) string { return strings.Replace(c.json(), "{", `{"name":"lab",`, 1) }, 6, []string{"name", "twice"}},
	{"a key in capitals", "", nil, edit(conf{"MTU": 1500}), 2, []string{"MTU"}},
	{"MTU in quotes", "", nil, edit(conf{"mtu": "1500"}), 6, []string{"mtu"}},
	{"fractional MTU", "", nil, edit(conf{"mtu": 1500.5}), 6, []string{"mtu", "1500.5"}},
	{"MTU too small", "", nil, edit(conf{"mtu": 67}), 7, []string{"mtu", "67"}},
	{"MTU too large", "", nil, edit(conf{"mtu": 65522}), 7, []string{"mtu", "65522"}},
	{"no name", "", nil, edit(conf{"name": nil}), 7, []string{"name"}},
	{"bad name", "", nil, edit(conf{"name": "a b"}), 7, nil},
	{"bandwidth", "", nil, edit(conf{"runtimeConfig": conf{"bandwidth": conf{"ingresRate": 1000}}}), 2, []string{"bandwidth", "ingresRate"}},
	// versions
	{"no version", "", nil, edit(conf{"cniVersion": nil}), 1, nil},
	{"version 0.1.0", "", nil, edit(conf{"cniVersion": "0.1.0"}), 1, []string{"0.1.0"}},
	{"version 0.2.0", "", nil, edit(conf{"cniVersion": "0.2.0"}), 1, []string{"0.2.0"}},
	{"version of the future", "", nil, edit(conf{"cniVersion": "2.0.0"}), 1, []string{"2.0.0"}},
	{"version that is a number", "", nil, edit(conf{"cniVersion": 1.1}), 6, nil},
	{"CHECK too early", "CHECK", nil, edit(conf{"cniVersion": "0.3.1"}), 1, nil},
	{"STATUS too early", "STATUS", nil, edit(conf{"cniVersion": "1.0.0"}), 1, nil},
	{"GC too early", "GC", nil, edit(conf{"cniVersion": "1.0.0"}), 1, nil},
	// prevResult
	{"prevResult that is a string", "", nil, edit(conf{"prevResult": "none"}), 6, []string{"prevResult"}},
	{"prevResult of another version", "", nil, edit(conf{"prevResult": conf{"cniVersion": "3.0.0"}}), 6, []string{"prevResult"}},
	{"prevResult with a null", "", nil, edit(conf{"prevResult": conf{"interfaces": raw("[null]")}}), 6, []string{"prevResult", "null"}},
	{"prevResult with a bad address", "", nil, edit(conf{"prevResult": conf{"ips": []conf{{"address": "x"}}}}), 6, []string{"prevResult"}},
	{"prevResult with an index that leads nowhere", "", nil, edit(conf{"prevResult": conf{"ips": []conf{{"address": "10.0.0.1/8", "interface": 9}}}}), 6, []string{"prevResult", "9"}},
	{"CHECK without prevResult", "CHECK", nil, edit(conf{"prevResult": nil}), 7, []string{"prevResult"}},
	{"CHECK with another's prevResult", "CHECK", nil, edit(conf{"prevResult": conf{"interfaces": []conf{{"name": "x", "sandbox": "vm2"}}}}), 7, []string{"prevResult", "vm1"}},
}

var tapRefuses = []refusal{
	{"misspelled key", "", nil, edit(conf{"onwer": 1}), 2, []string{"onwer"}},
	{"key of the bridge plugin", "", nil, edit(conf{"bridge": "br0"}), 2, []string{"bridge", "br0"}},
	{"placement that never will be", "", nil, edit(conf{"placement": "moon"}), 7, []string{"moon"}},
	{"unknown owner", "", nil, edit(conf{"owner": "no-such-user"}), 7, []string{"no-such-user"}},
	{"unknown group", "", nil, edit(conf{"group": "no-such-group"}), 7, []string{"no-such-group"}},
	{"owner that is a flag", "", nil, edit(conf{"owner": true}), 6, []string{"owner"}},
	{"SELinux context without SELinux", "", nil, edit(conf{"selinuxContext": "system_u:system_r:svirt_t:s0"}), 7, []string{"selinuxContext"}},
	{"queue length 0", "", nil, edit(conf{"txQueueLen": 0}), 7, []string{"txQueueLen"}},
}

func prev(interfaces ...conf) func(conf) string {
	return edit(conf{"prevResult": conf{"cniVersion": newest, "interfaces": interfaces}})
}

var bridgeRefuses = []refusal{
	{"misspelled bridge", "", nil, edit(conf{"brigde": "br1"}), 2, []string{"brigde", "br1"}},
	{"key of the tap plugin", "", nil, edit(conf{"owner": 1}), 2, []string{"owner"}},
	{"key of a later version", "", nil, edit(conf{"disableContainerInterface": true}), 2, []string{"disableContainerInterface", "true"}},
	{"masquerading without addresses", "", nil, edit(conf{"ipMasq": true, "isGateway": nil, "ipam": nil}), 7, []string{"ipMasq"}},
	{"unknown backend", "", nil, edit(conf{"ipMasq": true, "ipMasqBackend": "pf"}), 7, []string{"ipMasqBackend", "pf"}},
	{"guard", "", nil, edit(conf{"guard": conf{"mode": "of"}}), 7, []string{"guard.mode", `"of"`}},
	{"bridge name too long", "", nil, edit(conf{"bridge": "a234567890123456"}), 7, []string{"bridge"}},
	{"bridge that is a tap", "", nil, edit(conf{"bridge": "tap1"}), 7, []string{"tap1", "not a bridge"}},
	{"bridge that is lo", "", nil, edit(conf{"bridge": "lo"}), 7, []string{"lo", "not a bridge"}},
	{"missing bridge", "", nil, edit(conf{"bridge": "br7", "bridgeMode": "existing", "isGateway": nil}), 7, []string{"br7"}},
	{"unknown mode", "", nil, edit(conf{"bridgeMode": "borrow"}), 7, []string{"borrow"}},
	{"gateway on somebody else's bridge", "", nil, edit(conf{"bridgeMode": "existing"}), 7, []string{"isGateway"}},
	{"gateway without addresses", "", nil, edit(conf{"ipam": nil}), 7, []string{"isGateway"}},
	{"hairpin on a promiscuous bridge", "", nil, edit(conf{"hairpinMode": true, "promiscMode": true}), 7, []string{"hairpinMode"}},
	{"IPAM without type", "", nil, edit(conf{"ipam": conf{"subnet": "10.1.0.0/16"}}), 7, []string{"ipam.type"}},
	{"IPAM outside of the path", "", nil, edit(conf{"ipam": conf{"type": "../bin/sh"}}), 7, []string{"ipam.type"}},
	{"dhcp", "", nil, edit(conf{"ipam": conf{"type": "dhcp"}}), 7, []string{"dhcp"}},
	{"bad nameserver", "", nil, edit(conf{"dns": conf{"nameservers": []string{"ns1"}}}), 7, []string{"ns1"}},
	{"unknown key in dns", "", nil, edit(conf{"dns": conf{"nameserver": "10.1.0.1"}}), 2, []string{"nameserver"}},
	{"no prevResult", "", nil, edit(conf{"prevResult": nil}), 7, []string{"prevResult", "br0"}},
	{"empty prevResult", "", nil, prev(), 7, []string{"prevResult", "no tap"}},
	{"a tap that is gone", "", nil, prev(conf{"name": "tap7"}), 7, []string{"tap7"}},
	{"a tap elsewhere", "", nil, prev(conf{"name": "tap0", "sandbox": "/run/netns/guests"}), 7, []string{"no tap"}},
	{"a device that is no tap", "", nil, prev(conf{"name": "wire0"}), 7, []string{"wire0"}},
	{"a tun device", "", nil, prev(conf{"name": "tun0"}), 7, []string{"tun0"}},
	{"two taps", "", nil, prev(conf{"name": "tap0"}, conf{"name": "tap1"}), 7, []string{"2 taps"}},
	{"a tap that is a port", "", nil, prev(conf{"name": "tap2"}), 101, []string{"tap2", "br2"}},
	{"the guest's MAC on the tap", "", nil, prev(conf{"name": "tap0"}, conf{"name": "tap0", "sandbox": "vm1", "mac": "02:00:00:00:00:10"}), 7, []string{"tap0", "02:00:00:00:00:10"}},
	{"a tap with too long an MTU", "", nil, prev(conf{"name": "tap3"}), 7, []string{"tap3", "9000", "1500"}},
}

// Whatever is wrong with the input, the answer is an error with the right code,
// in one line, with advice; and nothing has changed.
func TestRefusals(t *testing.T) {
	t.Run("microvm-tap", func(t *testing.T) { refuse(t, 0, append(bothRefuse, tapRefuses...)) })
	t.Run("microvm-bridge", func(t *testing.T) { refuse(t, 1, append(bothRefuse, bridgeRefuses...)) })
}

func refuse(t *testing.T, plugin int, table []refusal) {
	t.Helper()
	h := newHost(t)
	h.bridge("br2", "")
	for _, name := range []string{"tap0", "tap1", "tap2", "tap3"} {
		h.tap(name)
	}
	h.sh(`ip link set tap0 address 02:00:00:00:00:10
ip link set tap2 master br2; ip link set tap3 mtu 9000
ip tuntap add tun0 mode tun; ip link add wire0 type veth peer name wire1`)
	h.mine = append(h.mine, "tun0", "wire0", "wire1")
	defer h.sh("ip link del br2")
	before := h.snapshot("ip -d address show")
	n := h.pair(nil)
	name := n.plugins[plugin].plugin()
	good := n.plugins[plugin].with(conf{
		"cniVersion": newest, "name": "lab", "prevResult": conf{"cniVersion": newest, "interfaces": []conf{{"name": "tap0"}}},
	})
	for _, test := range table {
		t.Run(test.name, func(t *testing.T) {
			c := call{plugin: name, verb: "ADD", vm: h.vm("vm1"), env: test.env, stdin: good.json()}
			if test.verb != "" {
				c.verb = test.verb
			}
			if test.stdin != nil {
				c.stdin = test.stdin(good)
			}
			h.exec(c).refused(t, "", test.code, test.words...)
			before.same(t)
			if leases := h.leases("lab"); len(leases) > 0 {
				t.Errorf("leases are %v", leases)
			}
		})
	}
}
