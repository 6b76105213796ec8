package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// openNetns opens a network namespace. A path that leads to none is an error that
// is fs.ErrNotExist.
func openNetns(path string) (*os.File, error) {
	// A pipe in place of a namespace must not keep the open waiting.
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, badNetns(path, err)
	}
	if err := checkNetns(f); err != nil {
		return nil, errors.Join(badNetns(path, err), f.Close())
	}
	return f, nil
}

var errNoNetns = errors.New("it is not a network namespace")

func checkNetns(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Type != unix.NSFS_MAGIC {
		return errNoNetns
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return errNoNetns
	}
	return nil
}

// absences are the errors that say that a path leads to no namespace, and not
// that it could not be followed.
var absences = []error{errNoNetns, fs.ErrNotExist, unix.ENOTDIR, unix.ELOOP, unix.ENXIO, unix.ENODEV}

func badNetns(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	e := cnierr.New(cnierr.Environment, "give the path of a network namespace that is there, such as /run/netns/NAME (ip netns add NAME)",
		"network namespace %s: %w", path, err)
	for _, absent := range absences {
		if errors.Is(err, absent) {
			e.Err = errors.Join(fs.ErrNotExist, err)
		}
	}
	return e
}

// thread runs functions, one at a time, in a network namespace. It is a goroutine
// locked to a thread that entered the namespace, serves nobody else, and ends with
// the goroutine.
type thread struct {
	work chan func()
	done chan struct{}
}

// enter makes a thread in the network namespace of that path.
func enter(path string) (*thread, error) {
	f, err := openNetns(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &thread{work: make(chan func()), done: make(chan struct{})}
	entered := make(chan error)
	go t.serve(int(f.Fd()), entered)
	if err := <-entered; err != nil {
		return nil, cnierr.New(cnierr.Kernel, asRoot, "enter network namespace %s: %w", path, err)
	}
	return t, nil
}

func (t *thread) serve(netns int, entered chan<- error) {
	defer close(t.done)
	runtime.LockOSThread() // and never unlock
	err := unix.Setns(netns, unix.CLONE_NEWNET)
	entered <- err
	if err != nil {
		return
	}
	for f := range t.work {
		f()
	}
}

func (t *thread) run(f func() error) (err error) {
	ran := make(chan struct{})
	t.work <- func() {
		defer close(ran)
		err = f()
	}
	<-ran
	return err
}

func (t *thread) end() {
	close(t.work)
	<-t.done
}

// away holds the kernels of other network namespaces. Each is entered once: later
// calls stay in it, even if its path leads elsewhere by then.
type away struct {
	mu     sync.Mutex
	places map[string]*Kernel
	netns  string  // of this kernel; "" for the host's
	thread *thread // nil for the host's, where every thread will do
}

// in returns the kernel of the network namespace of that path, "" for this one.
func (k *Kernel) in(netns string) (*Kernel, error) {
	if netns == k.netns {
		return k, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if there := k.places[netns]; there != nil {
		return there, nil
	}
	t, err := enter(netns)
	if err != nil {
		return nil, err
	}
	there := &Kernel{NAT: noNAT{}, shaper: noShaper{}, splicer: k.splicer, away: away{netns: netns, thread: t}}
	if err := t.run(func() (err error) { there.conn, err = dial(); return err }); err != nil {
		t.end()
		return nil, fmt.Errorf("network namespace %s: %w", netns, err)
	}
	if k.places == nil {
		k.places = map[string]*Kernel{}
	}
	k.places[netns] = there
	return there, nil
}

// run runs f in a thread of the kernel's namespace.
func (k *Kernel) run(f func() error) error {
	if k.thread == nil {
		return f()
	}
	return k.thread.run(f)
}

// leave lets go of other network namespaces.
func (k *Kernel) leave() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for netns, there := range k.places {
		there.thread.end()
		errs = append(errs, wrap("close netlink socket in "+netns, there.conn.close()))
	}
	k.places = nil
	return errors.Join(errs...)
}

// LinkIn returns the link of the network namespace of that path that has the name,
// or the alternative name.
func (k *Kernel) LinkIn(netns, name string) (linkspec.Link, error) {
	at, err := k.in(netns)
	if err != nil {
		return linkspec.Link{}, err
	}
	l, err := at.look(name)
	if err != nil || at.thread == nil {
		return l, err
	}
	l.Netns = netns
	if l.Kind == linkspec.Tap {
		if l.Splice, err = at.spliceOf(l); err == nil {
			l.Unqueued, err = at.unqueued(l)
		}
	}
	return l, err
}
