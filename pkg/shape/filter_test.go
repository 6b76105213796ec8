package shape

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

func TestKeysAreRead(t *testing.T) {
	for _, s := range subnets("0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/7",
		"2001:db8::/32", "2001:db8:1::/33", "2001:db8:1:2::/64", "2001:db8:1:2:3:4:5:6/127", "::1/128") {
		for _, h := range []hook{ingress, egress} {
			for _, device := range []int{0, 7} {
				f := subnetFilters([]netip.Prefix{s}, device)[0]
				if got := readFilter(f.u32(3, h), h); got != f {
					t.Errorf("%+v becomes %+v", f, got)
				}
			}
		}
	}
}

func TestInterruptedListIsMadeAgain(t *testing.T) {
	calls := 0
	list, err := uninterrupted(func() ([]netlink.Filter, error) {
		calls++
		if calls < 3 {
			return make([]netlink.Filter, 1), netlink.ErrDumpInterrupted
		}
		return make([]netlink.Filter, 2), nil
	})
	if len(list) != 2 || err != nil {
		t.Errorf("got %d filters, %v", len(list), err)
	}
	list, err = uninterrupted(func() ([]netlink.Filter, error) { return make([]netlink.Filter, 1), netlink.ErrDumpInterrupted })
	var e *cnierr.Error
	if list != nil || !errors.As(err, &e) || e.Code != cnierr.TryAgain {
		t.Errorf("got %d filters, %v", len(list), err)
	}
}

func subnets(all ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range all {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}
