package chain

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// undo is what a person may do by hand, and what CHECK then says.
type undo struct {
	script, word string // TAP is the tap's name
	subnet       string // only where the network has it; "" for any
}

// option is a key of the upstream plugins bridge and tap, and what it is good for.
type option struct {
	key      string // of upstream, with what follows in nested objects
	families []string
	before   string // run on a bridge that is there before
	bridge   conf
	tap      conf
	vm       vm // its arguments and capabilities
	effect   func(*attached)
	undone   []undo // none where it is of the answer only, and leaves no trace on the host
}

var everyFamily = []string{"IPv4", "IPv6", "dual stack"}

var ungated = []undo{
	{"ip address del 10.1.0.1/16 dev br0", "inet is", "10.1.0.0/16"},
	{"ip address del fd00:1::1/64 dev br0", "fd00:1::1/64", "fd00:1::/64"},
	{"sysctl -qw net.ipv4.conf.br0.forwarding=0", "forwarding is off", "10.1.0.0/16"},
	{"sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward is 0", "10.1.0.0/16"},
	{"sysctl -qw net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.all.forwarding is 0", "fd00:1::/64"},
}

var options = []option{
	{key: "bridge", effect: func(a *attached) {
		if port := a.h.link(a.tap); port.Master != "br0" || a.r.Interfaces[0].Name != "br0" {
			a.t.Errorf("tap is a port of %s, the result names %s", port.Master, a.r.Interfaces[0].Name)
		}
	}, undone: []undo{{script: "ip link set TAP nomaster", word: "master is none"}, {script: "ip link del br0", word: "br0: link is none"}}},
	{key: "isGateway", families: everyFamily, effect: isGateway, undone: ungated},
	{key: "isGateway off", families: everyFamily, bridge: conf{"isGateway": nil}, effect: func(a *attached) {
		a.answered(nil, false)
		if on := a.h.sh("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding"); on != "0\n0\n" {
			a.t.Errorf("forwarding is %q", on)
		}
	}},
	{key: "isDefaultGateway", families: everyFamily, bridge: conf{"isGateway": nil, "isDefaultGateway": true}, effect: isDefaultGateway, undone: ungated},
	{key: "forceAddress", families: everyFamily, before: oldGateways, bridge: conf{"forceAddress": true}, effect: forceAddress, undone: append([]undo{{"ip address add 10.9.0.9/24 dev br0", "inet 10.9.0.9/24 is there, expected none", "10.1.0.0/16"}, {"ip address add fd00:1::9/60 dev br0 nodad", "inet fd00:1::9/60 is there, expected none", "fd00:1::/64"}}, ungated[:2]...)},
	{key: "mtu", bridge: conf{"mtu": 1400}, effect: mtu, undone: []undo{{script: "ip link set TAP mtu 1300", word: "mtu is 1300, expected 1400"}, {script: "ip link set br0 mtu 1500", word: "br0: mtu is 1500"}}},
	{key: "hairpinMode", bridge: conf{"hairpinMode": true}.with(unguarded), effect: hairpin, undone: []undo{{script: "ip link set TAP type bridge_slave hairpin off", word: "hairpin is off"}}},
	{key: "hairpinMode off", bridge: unguarded, effect: noHairpin, undone: []undo{{script: "ip link set TAP type bridge_slave hairpin on", word: "hairpin is on"}}},
	{key: "promiscMode", bridge: conf{"promiscMode": true}.with(unguarded), effect: promisc, undone: []undo{{script: "ip link set br0 promisc off", word: "promisc is off"}}},
	{key: "promiscMode off", bridge: unguarded, effect: noPromisc, undone: []undo{{script: "ip link set br0 promisc on", word: "promisc is on"}}},
	{key: "portIsolation", families: everyFamily, bridge: conf{"portIsolation": true}.with(unguarded), effect: isolation, undone: []undo{{script: "ip link set TAP type bridge_slave isolated off", word: "isolated is off"}}},
	{key: "portIsolation off", bridge: unguarded, effect: noIsolation, undone: []undo{{script: "ip link set TAP type bridge_slave isolated on", word: "isolated is on"}}},
	{key: "enabledad", families: everyFamily[1:], bridge: conf{"enabledad": true}, effect: dad, undone: []undo{ungated[1], {"ip address del fd00:1::1/64 dev br0; ip address add fd00:1::1/64 dev br0 nodad", "fd00:1::1/64 dad", "fd00:1::/64"}}},
	{key: "enabledad off", families: everyFamily[1:], effect: noDAD, undone: []undo{ungated[1], {"ip address del fd00:1::1/64 dev br0; ip address add fd00:1::1/64 dev br0", "fd00:1::1/64 nodad", "fd00:1::/64"}}},
	{key: "ipam", families: everyFamily, effect: func(a *attached) {
		var got []string
		for _, ip := range a.r.IPs {
			if a.r.Interfaces[*ip.Interface].Sandbox == a.v.id {
				got = append(got, ip.Address.String())
			}
		}
		want := map[string]string{"10.1.0.0/16": "10.1.0.2/16", "fd00:1::/64": "fd00:1::2/64"}
		if len(got) != len(a.subnets) {
			a.t.Fatalf("addresses are %v", got)
		}
		for i, s := range a.subnets {
			if got[i] != want[s] {
				a.t.Errorf("address is %s, want %s", got[i], want[s])
			}
		}
	}, undone: []undo{{script: "rm " + leaseDir + "/lab/*:* " + leaseDir + "/lab/10* || true", word: "host-local"}}},
	{key: "dns", bridge: conf{"dns": conf{"nameservers": []string{"10.1.0.53", "fd00:1::53"}, "domain": "lab.test", "search": []string{"test"}, "options": []string{"edns0"}}}, effect: func(a *attached) {
		want := types100.Result{}.DNS
		want.Nameservers, want.Domain, want.Search, want.Options = []string{"10.1.0.53", "fd00:1::53"}, "lab.test", []string{"test"}, []string{"edns0"}
		if !reflect.DeepEqual(a.r.DNS, want) {
			a.t.Errorf("DNS is %+v", a.r.DNS)
		}
	}},
	{key: "runtimeConfig.mac", bridge: conf{"capabilities": conf{"mac": true}}, tap: conf{"capabilities": conf{"mac": true}}, vm: vm{capabilities: map[string]any{"mac": "02:00:00:00:00:77"}}, effect: givenMAC, undone: otherMAC},
	{key: "args.cni.mac", bridge: conf{"args": conf{"cni": conf{"mac": "02:00:00:00:00:77"}}}, tap: conf{"args": conf{"cni": conf{"mac": "02:00:00:00:00:77"}}}, effect: givenMAC, undone: otherMAC},
	{key: "CNI_ARGS.mac", vm: vm{args: "MAC=02:00:00:00:00:77"}, effect: givenMAC, undone: otherMAC},
	{key: "mac", tap: conf{"mac": "02:00:00:00:00:77"}, effect: givenMAC, undone: otherMAC},
	{key: "runtimeConfig.ips", families: everyFamily, bridge: conf{"capabilities": conf{"ips": true}}, vm: vm{capabilities: map[string]any{"ips": []string{"10.1.0.77/16", "fd00:1::77/64"}}}, effect: func(a *attached) {
		g := a.boot()
		for _, gw := range a.gateways() {
			if own := a.address(gw); own != netip.MustParseAddr("10.1.0.77") && own != netip.MustParseAddr("fd00:1::77") || !g.asks(own, gw) {
				a.t.Errorf("guest has %s", own)
			}
		}
	}},
	{key: "owner", tap: conf{"owner": 1234}, effect: func(a *attached) { a.tapIs("user 1234") }},
	{key: "group", tap: conf{"group": 4321}, effect: func(a *attached) { a.tapIs("group 4321") }},
	{key: "multiQueue", tap: conf{"multiQueue": true}, effect: func(a *attached) { a.tapIs("multi_queue") }},
}

// elsewhere are the keys whose effect other tests show.
var elsewhere = map[string]string{
	"ipMasq": "TestMasqueradedPackets", "ipMasqBackend": "TestMasqueradedPackets",
	"selinuxContext": "TestTapSettings",
	"vlan":           "TestVLANPackets", "vlanTrunk": "TestVLANPackets", "preserveDefaultVlan": "TestVLANPreserved",
	"macspoofchk": "TestGuardStopsASpoofedMAC",
}

// refusedKeys are upstream's keys that this version does not do, or never will.
var refusedKeys = map[string]any{
	"disableContainerInterface": true,
}

func givenMAC(a *attached) {
	if a.mac().String() != "02:00:00:00:00:77" || a.h.link(a.tap).MAC != "fe:00:00:00:00:77" {
		a.t.Errorf("guest has %s, its tap %s", a.mac(), a.h.link(a.tap).MAC)
	}
}

var otherMAC = []undo{{script: "ip link set TAP address 02:99:99:99:99:99", word: "link/ether is 02:99:99:99:99:99"}}

// tapIs fails the test unless `ip` says so of the tap.
func (a *attached) tapIs(words string) {
	a.t.Helper()
	if text := a.h.sh("ip -d link show " + a.tap); !strings.Contains(text, words) {
		a.t.Errorf("tap is not %q:\n%s", words, text)
	}
}

// Each option does what it is for, to packets or in the kernel, and CHECK tells
// when somebody undid it by hand.
func TestOptions(t *testing.T) {
	for _, o := range options {
		if o.families == nil {
			o.families = []string{"dual stack"}
		}
		for _, family := range o.families {
			t.Run(o.key+" "+family, func(t *testing.T) { o.try(t, families[family]) })
		}
	}
}

func (o option) try(t *testing.T, subnets []string) {
	h := newHost(t)
	if o.before != "" {
		h.bridge("br0", "")
		h.sh(o.before)
	}
	ipam := conf{"ipam": conf{"type": "host-local", "ranges": ranges(subnets...)}}
	v := h.vm("vm1")
	v.args = o.vm.args
	if ips, ok := o.vm.capabilities["ips"].([]string); ok { // just those that the network has
		ips = slices.DeleteFunc(slices.Clone(ips), func(ip string) bool {
			return !slices.Contains(subnets, netip.MustParsePrefix(ip).Masked().String())
		})
		v.capabilities = map[string]any{"ips": ips}
	} else {
		v.capabilities = o.vm.capabilities
	}
	n := h.network("lab", newest, tap.with(o.tap), gateway.with(ipam).with(o.bridge))
	a := &attached{t: t, h: h, n: n, v: v, r: n.add(v), subnets: subnets}
	t.Cleanup(func() { n.remove(v) })
	a.tap = v.tapOf(a.r)
	o.effect(a)
	n.holds(v)
	for _, u := range o.undone {
		if u.subnet != "" && !slices.Contains(subnets, u.subnet) {
			continue
		}
		h.sh(strings.ReplaceAll(u.script, "TAP", a.tap))
		if err := n.check(v); err == nil || !strings.Contains(err.Error(), u.word) {
			t.Errorf("after %s CHECK says %v, want something of %q", u.script, err, u.word)
		}
		n.remove(v)
		if o.key == "mtu" && h.link("br0") != nil {
			t.Error("the bridge is still there") // and would be refused
		}
		n.add(v)
		n.holds(v)
	}
}

// What an option of upstream's that we do not have asks for is refused.
func TestRefusedOptions(t *testing.T) {
	for key, value := range refusedKeys {
		t.Run(key, func(t *testing.T) {
			h := newHost(t)
			n, v := h.pair(conf{key: value}), h.vm("vm1")
			_, err := n.tryAdd(v)
			wantError(t, err, 2, key)
			n.remove(v)
		})
	}
}

// No key of the upstream plugins is without a test, in the version of go.mod.
func TestEveryUpstreamOptionIsTried(t *testing.T) {
	tests := testNames(t)
	keys := append(upstreamKeys(t, "bridge"), upstreamKeys(t, "tap")...)
	if len(keys) < 20 {
		t.Fatalf("upstream has the keys %v: something is wrong with the search", keys)
	}
	for _, key := range append(keys, "ipam", "dns") { // the last two are of types.NetConf
		tried := slices.ContainsFunc(options, func(o option) bool { return strings.EqualFold(o.key, key) })
		_, refused := refusedKeys[key]
		if name, ok := elsewhere[key]; ok && slices.Contains(tests, name) {
			tried = true
		}
		if !tried && !refused {
			t.Errorf("no test for %s", key)
		}
	}
}

// upstreamKeys are the JSON keys of an upstream plugin's configuration and of
// its CNI_ARGS.
func upstreamKeys(t *testing.T, plugin string) []string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/containernetworking/plugins").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	file := filepath.Join(strings.TrimSpace(string(dir)), "plugins/main", plugin, plugin+".go")
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string]*ast.StructType{}
	ast.Inspect(parsed, func(node ast.Node) bool {
		if spec, ok := node.(*ast.TypeSpec); ok {
			if s, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = s
			}
		}
		return true
	})
	keys := keysOf(structs, "", structs["NetConf"])
	return append(keys, keysOf(structs, "CNI_ARGS.", structs["MacEnvArgs"])...)
}

// keysOf walks into structs, but not into lists.
func keysOf(structs map[string]*ast.StructType, prefix string, s *ast.StructType) []string {
	var keys []string
	for _, f := range s.Fields.List {
		if f.Tag == nil {
			continue
		}
		key, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		inner, _ := f.Type.(*ast.StructType)
		if name, ok := f.Type.(*ast.Ident); ok && inner == nil {
			inner = structs[name.Name]
		}
		switch star, _ := f.Type.(*ast.StarExpr); {
		case inner != nil:
			keys = append(keys, keysOf(structs, prefix+key+".", inner)...)
		case star != nil && isStruct(star.X): // tap's "args", of which it reads nothing
		default:
			keys = append(keys, prefix+key)
		}
	}
	return keys
}

func isStruct(e ast.Expr) bool {
	_, ok := e.(*ast.StructType)
	return ok
}

// testNames are the tests of this package.
func testNames(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}
