package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// A tap is labelled with the context of the process that creates it, whatever
// that process has asked for (selinux_tun_dev_alloc_security), and a process of
// many threads may not change its own. So the program runs itself in the context
// that was asked for, to do no more than attach the open file to a new tap. The
// tap still goes with the file, which this process holds, too.
const (
	// attachProgram is argv[0] of the program that attaches.
	attachProgram = "microvm-cni-attach"
	attachFile    = 3  // its file descriptor of the tap
	attachFailed  = 64 // its exit status, less the error number

	execContext = "/proc/thread-self/attr/exec"
)

// The program that attaches has nothing to do with what main is for.
func init() {
	if len(os.Args) == 3 && os.Args[0] == attachProgram {
		os.Exit(attachMain(os.Args[1], os.Args[2]))
	}
}

func attachMain(name, multiQueue string) (status int) {
	err := attach(attachFile, name, multiQueue == strconv.FormatBool(true))
	var errno unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return attachFailed + int(errno)
	}
	return 1
}

// attachIn does what attach does, in that SELinux context.
func attachIn(context string, fd int, name string, multiQueue bool) error {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return cnierr.New(cnierr.Config, "remove the key selinuxContext, or boot the host with SELinux",
			"selinuxContext is set but SELinux is not enabled on this host")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := writeFile(execContext, context); err != nil {
		return cnierr.New(cnierr.Config, "give a context of the host's policy, as in \"ps -Z\"", "SELinux context %q: %w", context, err)
	}
	pid, err := startAttach(fd, name, multiQueue)
	// Programs that are run later run in the context that they always ran in.
	if reset := writeFile(execContext, "\n"); reset != nil {
		err = errors.Join(err, fmt.Errorf("reset SELinux context: %w", reset))
	}
	if err != nil {
		return cnierr.New(cnierr.Kernel, "see the audit log (ausearch -m avc): the policy must let the plugin run itself in that context",
			"run in SELinux context %q: %w", context, err)
	}
	return waitAttach(pid)
}

func startAttach(fd int, name string, multiQueue bool) (pid int, err error) {
	const closed = ^uintptr(0)
	pid, err = syscall.ForkExec("/proc/self/exe", []string{attachProgram, name, strconv.FormatBool(multiQueue)},
		&syscall.ProcAttr{Files: []uintptr{closed, closed, 2, attachFile: uintptr(fd)}})
	return pid, err
}

func waitAttach(pid int) error {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for attaching process: %w", err)
		}
		break
	}
	switch {
	case status.Exited() && status.ExitStatus() == 0:
		return nil
	case status.Exited() && status.ExitStatus() > attachFailed:
		return attachError(unix.Errno(status.ExitStatus() - attachFailed))
	}
	return fmt.Errorf("attaching process ended with status %#x", uint32(status))
}
