package tcbpf

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Namespace tells the thread's network namespace from all others that there are,
// by its inode.
func Namespace() (uint64, error) {
	var s unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &s); err != nil {
		return 0, fmt.Errorf("look at the network namespace: %w", err)
	}
	return s.Ino, nil
}

// LinkExists tells whether the thread's network namespace has a device with that
// interface index.
func LinkExists(index uint32) (bool, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("look for link %d: %w", index, err)
	}
	defer func() { _ = unix.Close(s) }()
	request, err := unix.NewIfreq("")
	if err != nil {
		return false, err
	}
	request.SetUint32(index)
	err = unix.IoctlIfreq(s, unix.SIOCGIFNAME, request)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for link %d: %w", index, err)
	}
	return true, nil
}
