package tc

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

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
