package kernel

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

const asRoot = "run the plugin as root, with CAP_NET_ADMIN in the host's user namespace"

// openTun opens the device that taps are made with.
func openTun() (int, error) {
	for {
		fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, adviseTun(err)
		}
		return fd, nil
	}
}

func adviseTun(err error) error {
	details := "see that " + tunPath + " is a character device 10:200 and that this process may open it"
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		details = "load the module (modprobe tun), or build the kernel with CONFIG_TUN; in a container, pass " + tunPath + " in"
	case errors.Is(err, fs.ErrPermission):
		details = asRoot + "; in a container, allow the device 10:200"
	}
	return cnierr.New(cnierr.IO, details, "open %s: %w", tunPath, err)
}

// ProbeTun tells whether taps can be made here.
func ProbeTun() error {
	fd, err := openTun()
	if err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close %s: %w", tunPath, err)
	}
	return nil
}
