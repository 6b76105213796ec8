package chain

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// acts are the system calls that change something outside of the process: only
// between two of them is there a state that was not there before.
var acts = map[uint64]bool{
	unix.SYS_IOCTL: true, unix.SYS_WRITE: true, unix.SYS_SENDTO: true, unix.SYS_SENDMSG: true, unix.SYS_OPENAT: true,
	unix.SYS_MKDIRAT: true, unix.SYS_UNLINKAT: true, unix.SYS_RENAMEAT: true, unix.SYS_RENAMEAT2: true,
	unix.SYS_BPF: true, unix.SYS_CLOSE: true, unix.SYS_FLOCK: true, unix.SYS_EXECVE: true, unix.SYS_EXIT_GROUP: true,
}

// fault is what the nth of some system calls meets, counted over the plugin,
// all its threads and its delegates, in the order of time. strace cannot do
// that: it counts the calls of each thread by themselves.
type fault struct {
	n     int
	calls map[uint64]bool
	errno unix.Errno // what the call returns; 0 to kill the plugin before it
}

// trace runs a plugin into the fault, and tells whether it was met. A delegate
// outlives a plugin that is killed.
func (h *host) trace(c call, f fault) (a answer, met bool) {
	h.t.Helper()
	err := h.do(func() (err error) {
		a, met, err = traced(h.command(c), c.stdin, f)
		return err
	})
	if err != nil {
		h.t.Fatalf("trace %s: %v", c.plugin, err)
	}
	return a, met
}

// traced must run on a thread of its own, which is the tracer.
func traced(cmd *exec.Cmd, input string, f fault) (a answer, met bool, err error) {
	files := make([]*os.File, 3)
	for i := range files {
		fd, err := unix.MemfdCreate("stdio", unix.MFD_CLOEXEC)
		if err != nil {
			return a, false, err
		}
		files[i] = os.NewFile(uintptr(fd), "stdio")
		defer files[i].Close()
	}
	if _, err := files[0].WriteAt([]byte(input), 0); err != nil {
		return a, false, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return a, false, err
	}
	defer time.AfterFunc(patience, func() { _ = cmd.Cancel() }).Stop()
	tr := tracer{fault: f, pid: cmd.Process.Pid, known: map[int]bool{cmd.Process.Pid: true}}
	if err := tr.follow(); err != nil {
		return a, tr.met, err
	}
	a.exit = tr.exit
	for i, text := range []*string{&a.stdout, &a.stderr} {
		b, err := io.ReadAll(io.NewSectionReader(files[i+1], 0, 1<<20))
		if err != nil {
			return a, tr.met, err
		}
		*text = string(b)
	}
	return a, tr.met, cmd.Process.Release()
}

type tracer struct {
	fault
	pid     int
	known   map[int]bool // threads that were seen
	count   int
	failing int // the thread whose call is to fail
	met     bool
	exit    int // status of the plugin, -1 if a signal ended it
}

// follow walks the plugin, its threads and its children from call to call.
func (tr *tracer) follow() error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(tr.pid, &status, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for start: %w", err)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
		unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(tr.pid, options); err != nil {
		return fmt.Errorf("set options: %w", err)
	}
	tid, signal := tr.pid, 0
	for {
		// A thread that was killed meanwhile cannot go on, nor need it.
		if err := unix.PtraceSyscall(tid, signal); err != nil && err != unix.ESRCH {
			return fmt.Errorf("go on: %w", err)
		}
		var err error
		if tid, err = tr.await(&status); errors.Is(err, unix.ECHILD) {
			return nil
		} else if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if signal, err = tr.stopped(tid, status); err != nil {
			return err
		}
	}
}

// await waits for the next thread that stops. ECHILD means that none is left.
func (tr *tracer) await(status *unix.WaitStatus) (tid int, err error) {
	for {
		tid, err = unix.Wait4(-1, status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case err == unix.EINTR:
		case err == nil && (status.Exited() || status.Signaled()):
			if tid == tr.pid {
				tr.exit = status.ExitStatus()
			}
		default:
			return tid, err
		}
	}
}

// stopped deals with a thread that stopped, and returns the signal that it is to
// go on with.
func (tr *tracer) stopped(tid int, status unix.WaitStatus) (signal int, err error) {
	switch s := status.StopSignal(); {
	case s == unix.SIGTRAP|0x80:
		return 0, tr.atCall(tid)
	case s == unix.SIGTRAP: // a clone, or an exec
		return 0, nil
	case !tr.known[tid]: // a new one begins stopped
		tr.known[tid] = true
		return 0, nil
	default:
		return int(s), nil
	}
}

func (tr *tracer) atCall(tid int) error {
	nr, entry := syscallOf(tid)
	if !entry {
		if tid != tr.failing {
			return nil
		}
		tr.failing = 0
		return answerWith(tid, tr.errno)
	}
	if !tr.calls[nr] {
		return nil
	}
	if tr.count++; tr.count != tr.n {
		return nil
	}
	tr.met = true
	if tr.errno == 0 {
		return unix.Kill(tr.pid, unix.SIGKILL)
	}
	tr.failing = tid
	return skip(tid)
}

// syscallOf is the number of the system call that the thread is about to make.
func syscallOf(tid int) (nr uint64, entry bool) {
	var info struct { // struct ptrace_syscall_info (include/uapi/linux/ptrace.h)
		op   uint8
		_    [3]uint8
		arch uint32
		_    [2]uint64
		nr   uint64
		_    [7]uint64
	}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	return info.nr, errno == 0 && info.op == unix.PTRACE_SYSCALL_INFO_ENTRY
}

// The tracer itself: without a fault a run is as any other, and a kill comes
// before the call.
func TestTracer(t *testing.T) {
	h := newHost(t)
	version := call{plugin: "microvm-tap", verb: "VERSION"}
	a, killed := h.trace(version, fault{n: 1e6, calls: acts})
	if killed || a.exit != 0 || !strings.Contains(a.stdout, newest) {
		t.Errorf("killed %v, exit %d, %s", killed, a.exit, a.stdout)
	}
	last := 0
	for n := 1; ; n++ {
		a, killed := h.trace(version, fault{n: n, calls: acts})
		if !killed {
			break
		}
		last = n
		// The last call is exit_group, the one before it writes the answer.
		if a.exit != -1 {
			t.Errorf("killed at %d, yet exit %d", n, a.exit)
		}
	}
	if before, _ := h.trace(version, fault{n: last - 1, calls: acts}); before.stdout != "" {
		t.Errorf("the answer was written before the call that writes it: %s", before.stdout)
	}
	if after, _ := h.trace(version, fault{n: last, calls: acts}); after.stdout == "" {
		t.Error("nothing was written before the exit")
	}
	write := map[uint64]bool{unix.SYS_WRITE: true}
	if failed, met := h.trace(version, fault{n: 1, calls: write, errno: unix.ENOSPC}); !met || failed.exit != 1 || !strings.Contains(failed.stdout, "no space left") {
		t.Errorf("with a write that fails: met %v, exit %d, %q", met, failed.exit, failed.stdout)
	}
}
