package config

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestParseArgs(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Args
	}{
		{"", Args{}},
		{"IgnoreUnknown=1", Args{ForDelegate: "IgnoreUnknown=1"}},
		{"REPAIR=1", Args{Repair: true}},
		{"REPAIR=false;IgnoreUnknown=1", Args{ForDelegate: "IgnoreUnknown=1"}},
		{"FOO=;IgnoreUnknown=True", Args{ForDelegate: "FOO=;IgnoreUnknown=True"}},
		{"TAP_NAME=a;TC_REDIRECT_TAP_NAME=a", Args{TapName: "a"}},
		{"TAP_OWNER=0;TAP_GROUP=kvm", Args{TapOwner: &ID{}, TapGroup: &ID{Name: "kvm"}}},
		{
			"IgnoreUnknown=0;IP=10.0.0.5/24, fd00::5/64,::ffff:10.0.0.6;GATEWAY=10.0.0.1,fd00::1",
			Args{
				IPs:         []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5"), netip.MustParseAddr("10.0.0.6")},
				Gateways:    []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
				ForDelegate: "IgnoreUnknown=0;IP=10.0.0.5/24, fd00::5/64,::ffff:10.0.0.6;GATEWAY=10.0.0.1,fd00::1",
			},
		},
		{
			// as Talos and firecracker-containerd write them
			"IP=10.5.0.2/24;GATEWAY=10.5.0.1;IgnoreUnknown=1;TC_REDIRECT_TAP_UID=300;TC_REDIRECT_TAP_GID=301;MAC=02-00-00-00-00-01",
			Args{
				MAC: theMAC, TapOwner: &ID{Number: 300}, TapGroup: &ID{Number: 301},
				IPs: []netip.Addr{netip.MustParseAddr("10.5.0.2")}, Gateways: []netip.Addr{netip.MustParseAddr("10.5.0.1")},
				ForDelegate: "IP=10.5.0.2/24;GATEWAY=10.5.0.1;IgnoreUnknown=1",
			},
		},
	} {
		got, err := ParseArgs(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", c.in, got, err, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct{ word, want string }{
		{"brigde", "bridge"},
		{"Bridge", "bridge"},
		{"bridg", "bridge"},
		{"bridgemode", "bridgeMode"},
		{"isgateway", "isGateway"},
		{"MTU", "mtu"},
		{"mut", "mtu"},
		{"ipams", "ipam"},
		{"xx", ""},
		{"", ""},
		{"frobnicate", ""},
	} {
		if got := nearest(c.word, bridgePlugin.keys); got != c.want {
			t.Errorf("%s: got %q, want %q", c.word, got, c.want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xbc", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance of %q and %q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
