//go:build linux

// Package netns gives a benchmark network namespaces of its own.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that ends with the process.
type Namespace struct{ File *os.File }

// New makes a namespace.
func New() (Namespace, error) {
	var n Namespace
	err := onNewThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network namespace: %w", err)
		}
		var err error
		n.File, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return n, err
}

// Do runs f on a thread of the namespace. Sockets that f opens stay there. What f mounts
// goes with the thread and its children; they see the namespace's /sys, and nothing that
// the machine has mounted in its own.
func (n Namespace) Do(f func() error) error {
	return onNewThread(func() error {
		if err := unix.Setns(int(n.File.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Mount("bench", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
		return f()
	})
}

// onNewThread runs f on a thread that ends with it, because its namespaces
// are nobody else's.
func onNewThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock
		done <- f()
	}()
	return <-done
}
