package splice

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// loopback is the interface index of lo in each network namespace.
const loopback = 1

// Supported returns nil if the kernel has what a splice needs (BPF, clsact,
// cls_bpf, and bpf_redirect_peer, which came with Linux 5.10), and if not, a
// cnierr error that says what is missing. It tries it out in a network namespace
// of its own, so it takes a few milliseconds: it is for STATUS, not for each ADD.
func Supported() error {
	result := make(chan error)
	go func() { result <- inNewNamespace(tryOut) }()
	err := <-result
	if err == nil || errors.As(err, new(*cnierr.Error)) {
		return err
	}
	return cnierr.New(cnierr.Kernel, "a tap in the VMM's network namespace needs Linux 5.10 or later with BPF, clsact and cls_bpf, and root's capabilities",
		"try out BPF programs: %w", err)
}

// tryOut attaches to a device that is not ours, with itself as the target.
func tryOut() error {
	for _, h := range halves(loopback, loopback) {
		p, err := h.code.Load(h.Program)
		if err != nil {
			return err
		}
		if err := errors.Join(h.Attach(p), p.Close()); err != nil {
			return err
		}
	}
	return nil
}

// inNewNamespace runs f in a new network namespace. If the way back is barred,
// the thread ends with the calling goroutine.
func inNewNamespace(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}
