package vmconf

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// TapMTU reads the MTU of a live tap, in bytes, in the network namespace at the
// path, or with "" in that of the process: for results that do not hold it. It
// needs CAP_SYS_ADMIN for another namespace. The caller's thread stays where it is.
//
//	if nic.MTU == 0 {
//		nic.MTU, err = vmconf.TapMTU(nic.Tap, nic.Netns)
//	}
func TapMTU(tap, netns string) (int, error) {
	request, err := unix.NewIfreq(tap)
	if err != nil {
		return 0, fmt.Errorf("read MTU of %q: it is no name of a device: %w", tap, err)
	}
	fd, err := socketIn(netns)
	if err != nil {
		return 0, fmt.Errorf("read MTU of %s: %w", tap, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFMTU, request); err != nil {
		return 0, fmt.Errorf("read MTU of %s: %w", tap, err)
	}
	return int(request.Uint32()), nil
}

// socketIn opens a socket of a network namespace. A socket stays in the one that
// it was opened in, so that the thread can leave at once.
func socketIn(netns string) (fd int, err error) {
	if netns == "" {
		return socket()
	}
	target, err := os.Open(netns)
	if err != nil {
		return -1, fmt.Errorf("open network namespace: %w", err)
	}
	defer target.Close()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close()
	if err = unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("enter network namespace %s: %w", netns, err)
	}
	fd, err = socket()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// Still locked: nobody else gets this thread, and it ends with the goroutine.
		return -1, errors.Join(err, fmt.Errorf("return from network namespace %s: %w", netns, back))
	}
	runtime.UnlockOSThread()
	return fd, err
}

func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	return fd, nil
}
