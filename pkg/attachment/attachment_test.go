package attachment

import (
	"net"
	"strings"
	"testing"
)

var vm = Attachment{Network: "lab", ContainerID: "vm1", IfName: "eth0"}

// Names must never change: a new version has to find what an old one made.
func TestDerivedNamesAreStable(t *testing.T) {
	for _, c := range []struct{ what, got, want string }{
		{"tap name", vm.TapName(), "mvt-cj2p46zgsnr"},
		{"guest MAC", vm.GuestMAC().String(), "02:43:46:23:aa:0f"},
		{"tap handle", vm.TapHandle(), "microvm-tap.pj7p4ejlu6.b5zoafpynwmq4uspkcj26rt3ul"},
		{"port handle", vm.PortHandle(), "microvm-bridge.pj7p4ejlu6.b5zoafpynwmq4uspkcj26rt3ul"},
		{"tag", Tag{Attachment: vm}.String(), "microvm-cni:lab/vm1/eth0"},
		{"tag with MTU", Tag{Attachment: vm, MTU: 1400}.String(), "microvm-cni:lab/vm1/eth0 mtu 1400"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.what, c.got, c.want)
		}
	}
}

func TestNamesTellAttachmentsApart(t *testing.T) {
	seen := map[string]Attachment{}
	for _, a := range []Attachment{
		vm,
		{"lab", "vm1", "eth1"},
		{"lab", "vm2", "eth0"},
		{"lan", "vm1", "eth0"},
		{"lab", "vm1e", "th0"},
		{"labv", "m1", "eth0"},
		{"eth0", "vm1", "lab"},
	} {
		toGuest, fromGuest := a.Devices()
		for _, name := range []string{toGuest, fromGuest, a.TapName(), a.GuestMAC().String(), a.TapHandle(), a.PortHandle(), Tag{Attachment: a}.String()} {
			if other, taken := seen[name]; taken {
				t.Errorf("%v and %v share %s", a, other, name)
			}
			seen[name] = a
		}
	}
}

func TestNamesFitTheKernel(t *testing.T) {
	long := Attachment{Network: strings.Repeat("n", 300), ContainerID: strings.Repeat("c", 300), IfName: "eth0"}
	for _, a := range []Attachment{vm, long} {
		if n := len(a.TapName()); n != MaxName {
			t.Errorf("tap name %q has %d bytes, want %d", a.TapName(), n, MaxName)
		}
		toGuest, fromGuest := a.Devices()
		if len(toGuest) != MaxName || len(fromGuest) != MaxName {
			t.Errorf("device names %q and %q have not %d bytes", toGuest, fromGuest, MaxName)
		}
		for _, h := range []string{a.TapHandle(), a.PortHandle()} {
			if len(h) <= MaxName || len(h) > 127 {
				t.Errorf("handle %q has %d bytes, want more than a device name and at most 127", h, len(h))
			}
		}
		if n := len(Tag{Attachment: a, MTU: 65521}.String()); n > 255 {
			t.Errorf("tag has %d bytes, want at most 255", n)
		}
	}
	if !strings.HasPrefix(vm.TapHandle(), TapHandlePrefix("lab")) || strings.HasPrefix(vm.TapHandle(), TapHandlePrefix("lan")) {
		t.Error("TapHandlePrefix does not tell networks apart")
	}
	if !strings.HasPrefix(vm.PortHandle(), PortHandlePrefix("lab")) || strings.HasPrefix(vm.PortHandle(), PortHandlePrefix("lan")) {
		t.Error("PortHandlePrefix does not tell networks apart")
	}
}

func TestMACs(t *testing.T) {
	guest := vm.GuestMAC()
	if guest[0]&1 != 0 || guest[0]&2 == 0 {
		t.Errorf("guest MAC %s is not unicast and locally administered", guest)
	}
	own, _ := net.ParseMAC("52:54:00:12:34:56")
	if got := TapMAC(own).String(); got != "fe:54:00:12:34:56" {
		t.Errorf("tap MAC is %s", got)
	}
	if own.String() != "52:54:00:12:34:56" {
		t.Error("TapMAC changed its argument")
	}
}

func TestTagRoundTrip(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name  string
		tag   Tag
		exact bool
	}{
		{"plain", Tag{Attachment: vm}, true},
		{"with MTU", Tag{Attachment: vm, MTU: 9000}, true},
		{"with shortcut", Tag{Attachment: vm, Shortcut: true}, true},
		{"with both", Tag{Attachment: vm, MTU: 9000, Shortcut: true}, true},
		{"long container ID", Tag{Attachment: Attachment{"lab", long, "eth0"}}, false},
		{"long network", Tag{Attachment: Attachment{long, "vm1", "eth0"}, MTU: 68}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := ParseTag(c.tag.String())
			if !ok || !got.Names(c.tag.Attachment) || got.MTU != c.tag.MTU || got.Shortcut != c.tag.Shortcut || got.Exact() != c.exact || !got.OnNetwork(c.tag.Network) {
				t.Errorf("%q comes back as %+v, %v", c.tag, got, ok)
			}
			if got.Names(Attachment{"lab", "other", "eth0"}) || got.OnNetwork("other") {
				t.Error("the tag names another attachment, too")
			}
		})
	}
}

func TestForeignAliasesAreNoTags(t *testing.T) {
	for _, alias := range []string{
		"", "uplink", "microvm-cni:", BridgeTag, "microvm-cni:lab/vm1", "microvm-cni:lab/vm1/eth0/x",
		"microvm-cni:/vm1/eth0", "microvm-cni:lab//eth0", "microvm-cni:lab/vm1/", "xmicrovm-cni:lab/vm1/eth0",
		"microvm-cni:lab/vm1/eth0 mtu ", "microvm-cni:lab/vm1/eth0 mtu x", "microvm-cni:lab/vm1/eth0 mtu -1",
	} {
		if tag, ok := ParseTag(alias); ok {
			t.Errorf("%q is taken for the tag of %+v", alias, tag)
		}
	}
}

func TestHasPortHandle(t *testing.T) {
	if !HasPortHandle([]string{"x", vm.PortHandle()}) {
		t.Error("a port handle is not recognised")
	}
	if HasPortHandle([]string{"x", vm.TapHandle()}) {
		t.Error("a tap handle is taken for a port handle")
	}
}

func TestGatewayName(t *testing.T) {
	for _, c := range []struct {
		bridge string
		vlan   int
		want   string
	}{
		{"br0", 100, "br0.100"},
		{"ten-letter", 4094, "ten-letter.4094"},
		{"eleven-lett", 4094, ""},
		{"fifteen-letters", 1, ""},
	} {
		got := GatewayName(c.bridge, c.vlan)
		derived := strings.HasPrefix(got, "mvg-") && len(got) == MaxName
		if c.want != "" && got != c.want || c.want == "" && !derived {
			t.Errorf("gateway of VLAN %d of %s is %q, want %q or a derived name", c.vlan, c.bridge, got, c.want)
		}
		if got == GatewayName(c.bridge, c.vlan+1) {
			t.Errorf("two VLANs of %s have the gateway %s", c.bridge, got)
		}
	}
}
