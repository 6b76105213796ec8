package guard

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// BenchmarkLoad is what the guard of the first guest of a network adds to its ADD,
// but for attaching it.
func BenchmarkLoad(b *testing.B) {
	s := spec(b)
	for name, r := range map[string]Rules{"default": frames.Typical, "hostAccess": hostRules("gateway", 1)} {
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			before := processorTime(b)
			defer func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1e6, "cpu-ms/op") }()
			for b.Loop() {
				l := loadFor(b, s, r.Canonical())
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkShare is what that of another one adds.
func BenchmarkShare(b *testing.B) {
	w, err := want(frames.Typical)
	if err != nil {
		b.Fatal(err)
	}
	first, err := w.programFor(testPort, noProgram())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	runtime.LockOSThread()
	before := processorTime(b)
	defer func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1e6, "cpu-ms/op") }()
	for b.Loop() {
		l, err := w.programFor(testPort, noProgram())
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// processorTime is what the thread used, which a busy machine does not change.
func processorTime(b *testing.B) int64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkParse comes once in a process before it.
func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := tcbpf.ParseObject(object); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFrame is what the program takes for a frame.
func BenchmarkFrame(b *testing.B) {
	for name, frame := range map[string][]byte{
		"tcp4": frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoTCP, frames.TCP(1, 2))), "tcp6": frames.Out(frames.TypeIPv6, frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoTCP, frames.TCP(1, 2))),
		"arp": frames.OwnARP, "spoofed": frames.Out(frames.TypeIPv4, frames.IP4(frames.Neighbour4, frames.Gateway4, frames.ProtoTCP, frames.TCP(1, 2))),
	} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b, spec(b), frames.Typical)
			for b.Loop() {
				m.attr.repeat = 10000
				if _, err := m.run(frame); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/frame")
		})
	}
}
