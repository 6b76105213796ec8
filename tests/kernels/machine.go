package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// kernel is one that scripts/prepare fetched.
type kernel struct {
	name  string // 6.1
	pkg   string // the Debian package
	image string // paths
	mods  string
}

func findKernel(name string) (kernel, error) {
	dir := filepath.Join(cache, "kernels", name)
	pkg, err := os.ReadFile(filepath.Join(dir, "package"))
	if err != nil {
		return kernel{}, fmt.Errorf("find kernel %s: %w: scripts/prepare kernels %s", name, err, name)
	}
	return kernel{
		name: name, pkg: strings.TrimSpace(string(pkg)),
		image: filepath.Join(dir, "vmlinuz"), mods: filepath.Join(dir, "modules.cpio"),
	}, nil
}

// machine is a running QEMU. It has no disk and no network device: what the
// tests are about, they make themselves. It runs in software emulation, so that
// it is the same on every machine.
type machine struct {
	cmd     *exec.Cmd
	channel *os.File // what its second serial port says; ends with the machine
	console *consoleLog
	started time.Time
	initrd  string
}

// boot starts a machine, which is killed when ctx is done.
func boot(ctx context.Context, k kernel, image string, o options) (*machine, error) {
	initrd := image + "." + k.name
	if err := join(initrd, image, k.mods); err != nil {
		return nil, fmt.Errorf("build initramfs: %w", err)
	}
	channel, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	m := &machine{channel: channel, console: &consoleLog{}, initrd: initrd}
	m.cmd = exec.CommandContext(ctx, "qemu-system-x86_64",
		"-machine", "microvm,x-option-roms=off,isa-serial=on", "-accel", "tcg", "-cpu", "max,cx16=off",
		"-m", strconv.Itoa(o.memoryMB), "-smp", strconv.Itoa(o.cpus),
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
		"-kernel", k.image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 reboot=t pci=off"+guest.ClockArguments(),
		"-serial", "stdio",
		"-chardev", "file,id=channel,path=/proc/self/fd/3", "-device", "isa-serial,chardev=channel,index=1",
	)
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.console
	m.cmd.ExtraFiles = []*os.File{theirs}
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.started = time.Now()
	if err := m.cmd.Start(); err != nil {
		channel.Close()
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return m, nil
}

// end waits until the machine is off, and returns QEMU's error.
func (m *machine) end() error {
	err := m.cmd.Wait()
	m.channel.Close()
	_ = os.Remove(m.initrd)
	return err
}

// join writes one file after the other into a new one.
func join(to string, from ...string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	for _, path := range from {
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		in.Close()
		if err != nil {
			return err
		}
	}
	return out.Close()
}

// consoleLog collects what the kernel, and QEMU itself, have to say.
type consoleLog struct {
	mu   sync.Mutex
	text []byte
}

func (l *consoleLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

// tail returns the end of the log.
func (l *consoleLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	const most = 4096
	return string(l.text[max(0, len(l.text)-most):])
}
