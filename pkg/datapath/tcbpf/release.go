package tcbpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// KernelAtLeast tells whether the kernel is of that version of Linux or a later one, for
// what it does not tell otherwise, such as the helpers that programs may call.
func KernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && releaseAtLeast(unix.ByteSliceToString(u.Release[:]), major, minor)
}

func releaseAtLeast(release string, major, minor int) bool {
	var x, y int
	_, err := fmt.Sscanf(release, "%d.%d", &x, &y)
	return err == nil && (x > major || x == major && y >= minor)
}
