package tcbpf

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Now is what bpf_ktime_get_ns() tells a program: CLOCK_MONOTONIC.
func Now() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return time.Duration(now.Nano()), nil
}
