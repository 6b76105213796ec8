package result

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

var (
	guestMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	links    = map[string]linkspec.Link{
		"br0":                  {Name: "br0", MAC: net.HardwareAddr{2, 0, 0, 0, 0xbb, 0}, MTU: new(1500)},
		"t0":                   {Name: "t0", MAC: net.HardwareAddr{0xfe, 0, 0, 0, 0, 1}, MTU: new(1400)},
		"t0 in /run/netns/vm1": {Name: "t0", MAC: net.HardwareAddr{0xfa, 0, 0, 0, 0, 1}, MTU: new(1400), Netns: "/run/netns/vm1"},
		"p0":                   {Name: "p0", MAC: net.HardwareAddr{0xfe, 0, 0, 0, 0, 1}, MTU: new(1400)},
	}
)

func address(s string) *types100.IPConfig {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return &types100.IPConfig{Address: net.IPNet{IP: ip, Mask: n.Mask}}
}

func answer() Answer {
	return Answer{
		Bridge: "br0", Tap: "t0", GuestMAC: guestMAC, ContainerID: "vm1", IfName: "eth0", Netns: "/run/netns/vm1",
		IPs: []*types100.IPConfig{address("10.0.0.2/24")},
	}
}

func text(r *types100.Result) string {
	var b strings.Builder
	for _, in := range r.Interfaces {
		b.WriteString(in.Name + "@" + in.Sandbox + " ")
	}
	for _, ip := range r.IPs {
		b.WriteString(ip.Address.String() + "->")
		if ip.Interface == nil {
			b.WriteString("none ")
			continue
		}
		in := r.Interfaces[*ip.Interface]
		b.WriteString(in.Name + "@" + in.Sandbox + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestBuild(t *testing.T) {
	one := 1
	nine := 9
	for _, c := range []struct {
		name string
		prev *types100.Result
		a    func(*Answer)
		want string
	}{
		{"alone", nil, func(*Answer) {}, "br0@ t0@ t0@vm1 eth0@/run/netns/vm1 10.0.0.2/24->t0@vm1 10.0.0.2/24->eth0@/run/netns/vm1"},
		{"tap named after CNI_IFNAME", nil, func(a *Answer) { a.IfName = "t0" }, "br0@ t0@ t0@vm1 10.0.0.2/24->t0@vm1"},
		{"no addresses", nil, func(a *Answer) { a.IPs = nil }, "br0@ t0@ t0@vm1"},
		{"no bridge", nil, func(a *Answer) { a.Bridge, a.IPs = "", nil }, "t0@ t0@vm1"},
		{"tap in the VMM's namespace", nil, func(a *Answer) {
			a.TapNetns, a.Port = a.Netns, "p0"
			a.IPs = []*types100.IPConfig{address("fd00::2/64"), address("10.0.0.2/24"), address("10.0.0.3/24")}
			a.IfName = "t0"
		}, "br0@ t0@/run/netns/vm1 t0@vm1 p0@ 10.0.0.2/24->t0@vm1 fd00::2/64->t0@/run/netns/vm1 10.0.0.3/24->t0@/run/netns/vm1"},
		{"tap in the VMM's namespace, IPv6 only, another name", nil, func(a *Answer) {
			a.TapNetns, a.Port, a.IPs = a.Netns, "p0", []*types100.IPConfig{address("fd00::2/64")}
		}, "br0@ t0@/run/netns/vm1 t0@vm1 p0@ eth0@/run/netns/vm1 fd00::2/64->t0@vm1 fd00::2/64->eth0@/run/netns/vm1"},
		{
			"after the tap's plugin",
			&types100.Result{Interfaces: []*types100.Interface{{Name: "t0"}, {Name: "t0", Sandbox: "vm1"}}},
			func(*Answer) {}, "br0@ t0@ t0@vm1 eth0@/run/netns/vm1 10.0.0.2/24->t0@vm1 10.0.0.2/24->eth0@/run/netns/vm1",
		},
		{
			"what others said is kept, and its indices follow",
			&types100.Result{
				Interfaces: []*types100.Interface{{Name: "x"}, {Name: "y", Sandbox: "s"}, {Name: "t0"}},
				IPs: []*types100.IPConfig{
					{Address: address("10.9.0.1/24").Address, Interface: &one},
					{Address: address("10.9.0.2/24").Address},
					{Address: address("10.9.0.3/24").Address, Interface: &nine},
				},
			},
			func(a *Answer) { a.IPs = nil }, "br0@ t0@ t0@vm1 x@ y@s 10.9.0.1/24->y@s 10.9.0.2/24->none 10.9.0.3/24->none",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := answer()
			c.a(&a)
			if got := text(Build(c.prev, a, links)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestBuildTellsMACsAndMTUs(t *testing.T) {
	r := Build(nil, answer(), links)
	for i, want := range []types100.Interface{
		{Name: "br0", Mac: "02:00:00:00:bb:00", Mtu: 1500},
		{Name: "t0", Mac: "fe:00:00:00:00:01", Mtu: 1400},
		{Name: "t0", Mac: "02:00:00:00:00:01", Mtu: 1400, Sandbox: "vm1"},
		{Name: "eth0", Mac: "02:00:00:00:00:01", Mtu: 1400, Sandbox: "/run/netns/vm1"},
	} {
		if *r.Interfaces[i] != want {
			t.Errorf("interface %d is %+v, want %+v", i, *r.Interfaces[i], want)
		}
	}
}

func TestRoutesAndDNSOfEarlierPluginsAreKept(t *testing.T) {
	_, dst, _ := net.ParseCIDR("10.9.0.0/16")
	prev := &types100.Result{Routes: []*types.Route{{Dst: *dst}}, DNS: types.DNS{Nameservers: []string{"9.9.9.9"}}}
	a := answer()
	_, own, _ := net.ParseCIDR("10.8.0.0/16")
	a.Routes = []*types.Route{{Dst: *own}}
	r := Build(prev, a, links)
	if len(r.Routes) != 2 || r.Routes[0].Dst.String() != "10.9.0.0/16" || r.Routes[1].Dst.String() != "10.8.0.0/16" {
		t.Errorf("routes are %v", r.Routes)
	}
	if len(r.DNS.Nameservers) != 1 || r.DNS.Nameservers[0] != "9.9.9.9" {
		t.Errorf("DNS is %v", r.DNS)
	}
	a.DNS = types.DNS{Nameservers: []string{"1.1.1.1"}}
	if r := Build(prev, a, links); r.DNS.Nameservers[0] != "1.1.1.1" {
		t.Errorf("DNS is %v, want ours", r.DNS)
	}
}

func TestPrintLeavesOutWhatTheVersionDoesNotKnow(t *testing.T) {
	_, dst, _ := net.ParseCIDR("0.0.0.0/0")
	a := answer()
	a.Routes = []*types.Route{{Dst: *dst, MTU: 1300, Priority: 7}}
	for _, c := range []struct {
		version string
		newer   bool // fields of 1.1.0
	}{{"0.3.0", false}, {"0.3.1", false}, {"0.4.0", false}, {"1.0.0", false}, {"1.1.0", true}} {
		t.Run(c.version, func(t *testing.T) {
			var b bytes.Buffer
			if err := Print(&b, Build(nil, a, links), c.version); err != nil {
				t.Fatal(err)
			}
			var doc struct {
				CNIVersion string
				Interfaces []map[string]any
				Routes     []map[string]any
			}
			if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			if doc.CNIVersion != c.version {
				t.Errorf("version is %s", doc.CNIVersion)
			}
			if _, there := doc.Interfaces[1]["mtu"]; there != c.newer {
				t.Errorf("mtu of an interface: %v, want %v", there, c.newer)
			}
			if _, there := doc.Routes[0]["mtu"]; there != c.newer {
				t.Errorf("mtu of a route: %v, want %v", there, c.newer)
			}
		})
	}
}
