package guard

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// What the program returns: go on with other filters, or drop.
const (
	actUnspec = 0xffffffff
	actShot   = 2
)

// machine runs frames through a program that is loaded but not attached.
type machine struct {
	l loaded

	attr testRun
	ctx  skb
}

// testRun is the part of union bpf_attr that BPF_PROG_TEST_RUN uses.
type testRun struct {
	fd, retval, sizeIn, sizeOut uint32
	dataIn, dataOut             uint64
	repeat, duration            uint32
	ctxSizeIn, ctxSizeOut       uint32
	ctxIn, ctxOut               uint64
}

// skb is struct __sk_buff, of which tests set the fields of GSO.
type skb struct {
	_       [164]byte
	gsoSegs uint32
	_       [8]byte
	gsoSize uint32
	_       [12]byte
}

func newMachine(t testing.TB, spec *tcbpf.Object, r Rules) *machine {
	t.Helper()
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	l := loadFor(t, spec, r.Canonical())
	t.Cleanup(func() { _ = l.Close() })
	m := &machine{l: l}
	m.attr.fd = uint32(l.program)
	return m
}

// testPort is the index of lo, which BPF_PROG_TEST_RUN takes frames from.
const testPort = 1

// loadFor loads a program of its own, for frames of BPF_PROG_TEST_RUN.
func loadFor(t testing.TB, spec *tcbpf.Object, r Rules) loaded {
	t.Helper()
	w := wanted{program: func() (*tcbpf.Object, error) { return spec, nil }}
	w.shared, w.own = encode(r, 0)
	l, err := w.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.admit(testPort, w.own); err != nil {
		t.Fatal(err)
	}
	return l
}

// run returns whether the frame passes.
func (m *machine) run(frame []byte) (bool, error) {
	m.attr.dataIn, m.attr.sizeIn = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(frame)))), uint32(len(frame))
	m.attr.sizeOut, m.attr.ctxSizeIn, m.attr.ctxIn = 0, 0, 0 // the kernel writes into the first
	if m.ctx.gsoSize != 0 {
		m.attr.ctxIn, m.attr.ctxSizeIn = uint64(uintptr(unsafe.Pointer(&m.ctx))), uint32(unsafe.Sizeof(m.ctx))
	}
	e := unix.EINTR
	for e == unix.EINTR { // of many repetitions, on a busy machine
		_, _, e = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&m.attr)), unsafe.Sizeof(m.attr))
	}
	runtime.KeepAlive(frame)
	if e != 0 {
		return false, fmt.Errorf("run a frame of %d bytes: %w", len(frame), e)
	}
	switch m.attr.retval {
	case actUnspec:
		return true, nil
	case actShot:
		return false, nil
	}
	return false, fmt.Errorf("the program returned %d", m.attr.retval)
}

// judge returns what becomes of the frame, and why.
func (m *machine) judge(t testing.TB, frame []byte) (bool, Reason) {
	t.Helper()
	before := m.counts(t)
	passes, err := m.run(frame)
	if err != nil {
		t.Fatal(err)
	}
	for r, n := range m.counts(t) {
		if n > before[r] {
			if passes != (r == 0) {
				t.Fatalf("passes: %v, but counted as %v", passes, Reason(r))
			}
			return passes, Reason(r)
		}
	}
	t.Fatal("the frame was not counted")
	return false, 0
}

func (m *machine) counts(t testing.TB) []uint64 {
	t.Helper()
	pass, drops, err := counters(m.l.maps, testPort)
	if err != nil {
		t.Fatal(err)
	}
	sums := make([]uint64, len(reasons))
	for r, n := range drops {
		sums[r] = n
	}
	sums[passed] = pass
	return sums
}
