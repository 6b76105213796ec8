package shape

import (
	"net/netip"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
)

func TestKeysAreRead(t *testing.T) {
	for _, s := range subnets("0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/7",
		"2001:db8::/32", "2001:db8:1::/33", "2001:db8:1:2::/64", "2001:db8:1:2:3:4:5:6/127", "::1/128") {
		for _, h := range []tc.Hook{tc.Ingress, tc.Egress} {
			for _, device := range []int{0, 7} {
				f := subnetFilters([]netip.Prefix{s}, device)[0]
				if got := readFilter(f.u32(3, h), h); got != f {
					t.Errorf("%+v becomes %+v", f, got)
				}
			}
		}
	}
}

func subnets(all ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range all {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}
