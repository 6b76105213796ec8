package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// guestPackage boots guests. A suite that imports it does so inside the host
// under test, as one emulation in another.
const guestPackage = "github.com/microvm-cni/microvm-cni/tests/vm/guest"

// What QEMU loads beside its libraries, where Debian has it: the emulator itself,
// which is a module of it, and the firmware of the machine type microvm.
var qemuFiles = []string{"/usr/lib/*/qemu/accel-tcg-x86_64.so", "/usr/share/qemu/bios-microvm.bin"}

// addGuests installs what guests are made of, if a suite boots any: it doubles
// the image.
func addGuests(ctx context.Context, root string, o options) error {
	boots, err := bootsGuests(ctx, o.suites)
	if err != nil || !boots {
		return err
	}
	if err := addTool(ctx, root, "qemu-system-x86_64"); err != nil {
		return err
	}
	for _, pattern := range qemuFiles {
		if err := addFiles(root, pattern); err != nil {
			return err
		}
	}
	for _, part := range []string{cache + "/kernel/vmlinuz", cache + "/initrd"} {
		if err := install(part, filepath.Join(root, "src", part), 0o644); err != nil {
			return fmt.Errorf("find guest kernel and initramfs: %w: scripts/prepare guest", err)
		}
	}
	return nil
}

func bootsGuests(ctx context.Context, suites []string) (bool, error) {
	args := []string{"list", "-test", "-deps"}
	for _, suite := range suites {
		args = append(args, "./"+suite)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return false, fmt.Errorf("list what the tests import: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.TrimSpace(line) == guestPackage {
			return true, nil
		}
	}
	return false, nil
}
