//go:build linux

package guest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The descriptors that QEMU inherits. It gets files as descriptors and not as paths, because its
// user may not look into the folder that the repository lies in (root's home, mostly).
const (
	kernelFD  = 3
	initrdFD  = 4
	channelFD = 5
)

const tunDevice = "/dev/net/tun"

// qemuArguments returns QEMU's command line for a completed config.
func qemuArguments(c Config) []string {
	kernelLine := "console=ttyS0 quiet panic=-1 pci=off" + ClockArguments()
	var macs []string
	for _, nic := range c.NICs {
		macs = append(macs, nic.MAC)
	}
	if len(macs) > 0 {
		kernelLine += " nics=" + strings.Join(macs, ",")
	}
	if c.KernelLine != "" {
		kernelLine += " " + c.KernelLine
	}
	args := []string{
		// With KVM the machine has no clock, and the kernel looks for it for half a minute.
		"-machine", "microvm,x-option-roms=off,isa-serial=on,rtc=on", "-accel", accelerator(), "-cpu", "max,cx16=off",
		"-m", strconv.Itoa(c.MemoryMB), "-smp", strconv.Itoa(c.CPUs),
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
		"-kernel", fdPath(kernelFD), "-initrd", fdPath(initrdFD), "-append", kernelLine,
		"-serial", "stdio",
		"-chardev", "socket,id=channel,fd=" + strconv.Itoa(channelFD),
		"-device", "isa-serial,chardev=channel,index=1",
	}
	for i, nic := range c.NICs {
		netdev := fmt.Sprintf("tap,id=net%d,ifname=%s,script=no,downscript=no,vnet_hdr=on", i, nic.Tap)
		device := fmt.Sprintf("virtio-net-device,netdev=net%d,mac=%s", i, nic.MAC)
		if nic.Queues > 1 {
			netdev += fmt.Sprintf(",queues=%d", nic.Queues)
			device += ",mq=on"
		}
		args = append(args, "-netdev", netdev, "-device", device)
	}
	return append(args, c.Arguments...)
}

// ClockArguments returns kernel arguments that tell a guest how fast its time stamp counter is, with a
// space before them. An emulated CPU that has to share a core often fails to measure that at boot, and
// then hangs, because it has no other clock to wait with. Emulation passes the machine's own counter
// through, so we know about how fast it is.
func ClockArguments() string {
	const base = "/sys/devices/system/cpu/cpu0/cpufreq/base_frequency"
	if text, err := os.ReadFile(base); err == nil {
		return " tsc=reliable tsc_early_khz=" + strings.TrimSpace(string(text))
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		key, value, _ := strings.Cut(line, ":")
		mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if strings.TrimSpace(key) == "cpu MHz" && err == nil {
			return fmt.Sprintf(" tsc=reliable tsc_early_khz=%.0f", mhz*1000)
		}
	}
	return ""
}

// nested tells whether this machine is emulated itself, as the hosts of tests/kernels are.
var nested = sync.OnceValue(func() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && strings.Contains(string(info), "QEMU TCG CPU")
})

// patience lengthens a timeout on a machine that is emulated.
func patience(timeout time.Duration) time.Duration {
	if nested() {
		return 5 * timeout
	}
	return timeout
}

// accelerator is software emulation, so that a guest is the same on every machine. An emulation in
// another one takes minutes to boot: in there it is KVM, which QEMU emulates, too.
func accelerator() string {
	if _, err := os.Stat("/dev/kvm"); err == nil && nested() {
		return "kvm"
	}
	return "tcg"
}

func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// launch starts QEMU. On success g.process and g.channel are set, and g.exited is closed when the
// process is gone.
func (g *Guest) launch(p parts, c Config) error {
	kernel, err := os.Open(p.kernel)
	if err != nil {
		return fmt.Errorf("open kernel: %w", err)
	}
	defer kernel.Close()
	initrd, err := buildInitrd(g.t.TempDir(), p.initrd, c)
	if err != nil {
		return fmt.Errorf("build initramfs: %w", err)
	}
	defer initrd.Close()
	ours, theirs, err := socketPair()
	if err != nil {
		return fmt.Errorf("make channel: %w", err)
	}
	defer theirs.Close()

	cmd := exec.Command(p.qemu, qemuArguments(c)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = g.console, g.console
	cmd.ExtraFiles = []*os.File{kernel, initrd, theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: c.UID, Gid: c.GID},
		Pdeathsig:  syscall.SIGKILL, // a test binary that panics leaves no QEMU behind
	}

	started := make(chan error)
	mountPoint := g.t.TempDir()
	onOwnThread(func() {
		err := enter(c, mountPoint)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			// Here, because the kill signal above comes when this thread ends, not the process.
			g.exitErr = cmd.Wait()
			close(g.exited)
		}
	})
	if err := <-started; err != nil {
		ours.Close()
		return fmt.Errorf("start QEMU as uid %d: %w", c.UID, err)
	}
	g.process, g.channel = cmd.Process, ours
	return nil
}

// onOwnThread runs f in a new goroutine on a thread that ends with it, so that f may change the
// thread's namespaces. It is never the main thread: that one cannot end, and /proc/self, through
// which others look at namespaces, means the main thread's.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // not unlocked: the thread dies
			return
		}
		done := make(chan struct{})
		onOwnThread(func() {
			defer close(done)
			f()
		})
		<-done // the main thread stays locked to us, so that f is on another one
		runtime.UnlockOSThread()
	}()
}

// enter moves the calling thread, and so the QEMU that it starts, into the network namespace of the
// config, and into a mount namespace in which the guest's user can open /dev/net/tun.
//
// udev gives that device mode 0666, since it is the tap's owner that decides who may attach. Where no
// udev runs it has root's mode 0600, which would hide what is under test here.
func enter(c Config, mountPoint string) error {
	if len(c.NICs)+len(c.Arguments) > 0 {
		if err := openTunToAll(mountPoint); err != nil {
			return err
		}
	}
	if c.Netns == "" {
		return nil
	}
	fd, err := unix.Open(c.Netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", c.Netns, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", c.Netns, err)
	}
	return nil
}

func openTunToAll(mountPoint string) error {
	var stat unix.Stat_t
	if err := unix.Stat(tunDevice, &stat); err != nil {
		return fmt.Errorf("find %s: %w: load the tun module (modprobe tun)", tunDevice, err)
	}
	if stat.Mode&0o006 == 0o006 {
		return nil
	}
	if err := openTunCopy(mountPoint, int(stat.Rdev)); err != nil {
		return fmt.Errorf("%s has mode %#o, which keeps every user but root from it, and a private copy with mode 0666 could not be made: %w",
			tunDevice, stat.Mode&0o777, err)
	}
	return nil
}

// openTunCopy covers the tun device with one that all may open, for the calling thread only. It
// lies in a file system of its own, because the folder for temporary files may not take devices.
func openTunCopy(mountPoint string, device int) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", mountPoint, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	node := filepath.Join(mountPoint, "tun")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, device); err != nil {
		return fmt.Errorf("make device node: %w", err)
	}
	if err := unix.Chmod(node, 0o666); err != nil { // the umask took a part
		return fmt.Errorf("open device node to all: %w", err)
	}
	if err := unix.Mount(node, tunDevice, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind device node: %w", err)
	}
	return nil
}

// socketPair returns the test's end of the channel and QEMU's.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "guest channel, QEMU's end")
	file := os.NewFile(uintptr(fds[0]), "guest channel")
	defer file.Close()
	ours, err = net.FileConn(file) // a duplicate, with deadlines and a Close that wakes readers
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("wrap socket: %w", err)
	}
	return ours, theirs, nil
}

// repositoryRoot finds the folder of go.mod, from the package folder that a test runs in upward.
func repositoryRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", fmt.Errorf("no go.mod in %s or above it", start)
		}
	}
}
