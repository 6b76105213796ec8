package tcbpf

import (
	"errors"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Load hands a program to the kernel, which keeps it while it is attached: the
// caller closes it in any case. Spec is not changed.
func Load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	unlimited()
	p, err := ebpf.NewProgramWithOptions(spec, ebpf.ProgramOptions{LogDisabled: true})
	if err != nil {
		return nil, refused(err, spec.Name)
	}
	return p, nil
}

// NewMap makes a map, which the kernel keeps while a program refers to it: the
// caller closes it in any case. Errors are those of ebpf.NewMap.
func NewMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	unlimited()
	return ebpf.NewMap(spec)
}

// unlimited takes the limit off the memory that the process may lock. Linux
// before 5.11 counts the programs and maps of all processes of a user against it,
// and then a few guests fill its default. That comes before anything else: the
// library tries once what the kernel knows, with maps of its own. A process that
// may not do it finds out when the limit is reached.
func unlimited() {
	_ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil)
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
