package tcbpf

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// lockMemory takes the limit off the memory that the process may lock. Linux
// before 5.11 counts the programs of all processes of a user against it, and
// then a few guests fill its default.
func lockMemory() error {
	return unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
}

func refused(err error, name string) error {
	advice := "the kernel must be Linux 5.10 or later, with BPF"
	switch {
	case errors.Is(err, unix.EPERM):
		advice = "the plugin needs CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN, and a kernel that is not locked down against BPF"
	case errors.Is(err, unix.ENOSYS):
		advice = "the kernel must be built with CONFIG_BPF_SYSCALL"
	}
	return cnierr.New(cnierr.Kernel, advice, "load BPF program %s: %w", name, err)
}
