// Package sandbox gives a test a host of its own: a network namespace, and a
// mount namespace with an empty /run and /var/lib and the /sys of that network.
//
// Namespaces belong to threads. A thread that enters a sandbox never leaves it:
// it ends with the goroutine that it is locked to.
package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Sandboxed goroutines end their threads, which the main thread would take
// badly: /proc/self is the main thread's. Locking here keeps it for main.
func init() { runtime.LockOSThread() }

const netnsDir = "/run/netns" // where `ip netns` looks, too

// Host is a throwaway host.
type Host struct {
	t        testing.TB
	dir      string // working directory of the test
	net      *os.File
	mnt      *os.File
	leftBe   bool
	parallel bool
	before   map[string]int // open files
}

// Option changes how NewHost ends.
type Option func(*Host)

// LinksMayStay keeps NewHost from failing the test over links that are left.
func LinksMayStay(h *Host) { h.leftBe = true }

// Parallel lets the test run beside others. Open files are not counted then:
// they are the whole process's.
func Parallel(h *Host) { h.parallel = true }

// NewHost makes a host whose one link is the loopback device, up. When the test
// ends it is gone; the test fails if links or open files are left by then.
// Tests that use it cannot be parallel, but with the option Parallel.
func NewHost(t testing.TB, options ...Option) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root, for network namespaces: sudo make test")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{t: t, dir: dir, before: openFiles(t)}
	for _, o := range options {
		o(h)
	}
	if err := onNewThread(h.make); err != nil {
		t.Fatalf("make sandbox: %v", err)
	}
	t.Cleanup(h.end)
	return h
}

// make turns the calling thread into one of a new host.
func (h *Host) make() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range []struct{ path, typ string }{{"/run", "tmpfs"}, {"/var/lib", "tmpfs"}, {"/sys", "sysfs"}} {
		if err := unix.Mount("sandbox", m.path, m.typ, unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	if err := bindNetns("host"); err != nil {
		return err
	}
	var err error
	if h.net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	h.mnt, err = os.Open("/proc/thread-self/ns/mnt")
	return err
}

// bindNetns names the thread's network namespace, and sets its loopback device up.
func bindNetns(name string) error {
	path := filepath.Join(netnsDir, name)
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", path, err)
	}
	return loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return errors.Join(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request), unix.Close(fd))
}

// Path is the host's own network namespace, as its processes see it.
func (h *Host) Path() string { return filepath.Join(netnsDir, "host") }

// Outside is the host's network namespace by a path that this process can open
// from any mount namespace, until the test ends.
func (h *Host) Outside() string { return fmt.Sprintf("/proc/self/fd/%d", h.net.Fd()) }

// Do runs f in a thread of the host, and the processes that f starts run there
// too. It may be called from any goroutine. A process started with Pdeathsig
// does not outlive f.
func (h *Host) Do(f func()) {
	h.t.Helper()
	finished := false
	err := onNewThread(func() error {
		if err := h.join(); err != nil {
			return err
		}
		f()
		finished = true
		return nil
	})
	if err != nil {
		h.t.Fatalf("enter sandbox: %v", err)
	}
	if !finished {
		runtime.Goexit() // f did, by t.FailNow or the like
	}
}

// Enter makes the calling test, to its end, run in the host.
func (h *Host) Enter() {
	h.t.Helper()
	runtime.LockOSThread()
	if err := h.join(); err != nil {
		h.t.Fatalf("enter sandbox: %v", err)
	}
}

// join moves the calling thread, which must end when it is done, to the host.
func (h *Host) join() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(int(h.mnt.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter mount namespace: %w", err)
	}
	if err := unix.Setns(int(h.net.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return unix.Chdir(h.dir) // entering a mount namespace moved the thread to /
}

// NewNetns makes a network namespace inside the host, for a VM to be known by
// or to run in, and returns its path there.
func (h *Host) NewNetns(name string) string {
	h.t.Helper()
	err := onNewThread(func() error {
		if err := h.join(); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return bindNetns(name)
	})
	if err != nil {
		h.t.Fatalf("make network namespace %s: %v", name, err)
	}
	return filepath.Join(netnsDir, name)
}

// DeleteNetns removes what NewNetns made.
func (h *Host) DeleteNetns(name string) {
	h.t.Helper()
	path := filepath.Join(netnsDir, name)
	err := onNewThread(func() error {
		if err := h.join(); err != nil {
			return err
		}
		return errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path))
	})
	if err != nil {
		h.t.Fatalf("delete network namespace %s: %v", name, err)
	}
}

// Links returns the names of the host's links, but for the loopback device.
func (h *Host) Links() []string {
	h.t.Helper()
	var names []string
	var listErr error
	h.Do(func() {
		links, err := net.Interfaces()
		listErr = err
		for _, l := range links {
			if l.Name != "lo" {
				names = append(names, l.Name)
			}
		}
	})
	if listErr != nil {
		h.t.Fatal(listErr)
	}
	return names
}

// end checks that nothing is left, and lets go of the namespaces.
func (h *Host) end() {
	if links := h.Links(); len(links) > 0 && !h.leftBe && !h.t.Failed() {
		h.t.Errorf("links left behind: %q", links)
	}
	if err := errors.Join(h.net.Close(), h.mnt.Close()); err != nil {
		h.t.Error(err)
	}
	if h.parallel {
		return
	}
	for target, n := range openFiles(h.t) {
		if n > h.before[target] {
			h.t.Errorf("open files left behind: %d of %s", n-h.before[target], target)
		}
	}
}

// openFiles counts the process's open files by what they are.
func openFiles(t testing.TB) map[string]int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil {
			continue // that of ReadDir itself
		}
		count[class(target)]++
	}
	// The Go runtime opens these when it first waits for something.
	delete(count, "anon_inode:[eventpoll]")
	delete(count, "anon_inode:[eventfd]")
	return count
}

// class is the target of an open file without its number: "socket:[4711]" is
// a socket.
func class(target string) string {
	for _, kind := range []string{"socket:", "pipe:", "net:", "mnt:"} {
		if len(target) > len(kind) && target[:len(kind)] == kind {
			return kind
		}
	}
	return target
}

// onNewThread runs f in a thread of its own that ends with it.
func onNewThread(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends here
		err = f()
	}()
	<-done
	return err
}
