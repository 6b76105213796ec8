package config

import (
	"math"
	"net/netip"
	"reflect"
	"testing"
)

func TestBandwidth(t *testing.T) {
	subnet := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	other := []netip.Prefix{netip.MustParsePrefix("fd00::/8")}
	for _, test := range []struct {
		name, keys string
		want       Bandwidth
	}{
		{"nothing", `"mtu": 1500`, Bandwidth{}},
		{
			"from the configuration", `"ingressRate": 1, "ingressBurst": 2, "egressRate": 3, "egressBurst": 4, "shapedSubnets": ["10.0.0.0/8"]`,
			Bandwidth{IngressRate: 1, IngressBurst: 2, EgressRate: 3, EgressBurst: 4, ShapedSubnets: subnet},
		},
		{
			"from the runtime", `"runtimeConfig": {"bandwidth": {"ingressRate": 1, "ingressBurst": 2, "egressRate": 3, "egressBurst": 4, "unshapedSubnets": ["10.0.0.0/8"]}}`,
			Bandwidth{IngressRate: 1, IngressBurst: 2, EgressRate: 3, EgressBurst: 4, UnshapedSubnets: subnet},
		},
		{
			"what containerd, CRI-O and kubelet mean by no limit", `"runtimeConfig": {"bandwidth": {"ingressRate": 1000000, "ingressBurst": 4294967295, "egressRate": 1, "egressBurst": 2147483647}}`,
			Bandwidth{IngressRate: 1e6, IngressBurst: math.MaxUint32, EgressRate: 1, EgressBurst: math.MaxInt32},
		},
		{"zeros from the runtime", `"runtimeConfig": {"bandwidth": {"ingressRate": 0, "ingressBurst": 0}}`, Bandwidth{}},
		{"null from the runtime", `"runtimeConfig": {"bandwidth": null}`, Bandwidth{}},
		{"nothing of ours", `"runtimeConfig": {"bandwidth": {"egressRate": 5, "queue": 0, "other": ""}}`, Bandwidth{EgressRate: 5}},
		{"the configuration wins as a whole", `"ingressRate": 7, "runtimeConfig": {"bandwidth": {"ingressRate": 1, "egressRate": 3}}`, Bandwidth{IngressRate: 7}},
		{"a zero wins, too", `"ingressRate": 0, "runtimeConfig": {"bandwidth": {"ingressRate": 1, "egressRate": 3}}`, Bandwidth{}},
		{"a null does not", `"ingressRate": null, "runtimeConfig": {"bandwidth": {"egressRate": 3}}`, Bandwidth{EgressRate: 3}},
		{
			"lists apart from rates", `"shapedSubnets": ["10.0.0.0/8"], "runtimeConfig": {"bandwidth": {"egressRate": 3, "unshapedSubnets": ["fd00::/8"]}}`,
			Bandwidth{EgressRate: 3, ShapedSubnets: subnet},
		},
		{
			"rates apart from lists", `"egressRate": 4, "runtimeConfig": {"bandwidth": {"egressRate": 3, "unshapedSubnets": ["fd00::/8"]}}`,
			Bandwidth{EgressRate: 4, UnshapedSubnets: other},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := ParseBridge([]byte(conf(test.keys)), Runtime{})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(b.Bandwidth, test.want) {
				t.Errorf("got %+v, want %+v", b.Bandwidth, test.want)
			}
		})
	}
}
