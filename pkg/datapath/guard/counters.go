package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// Drop is the last frame that was dropped for a reason. Of many in short order
// it is the first of each tenth of a second.
type Drop struct {
	Time   time.Duration // since boot, by CLOCK_MONOTONIC
	Length int           // bytes of the frame, its VLAN tag not counted
	Frame  []byte        // its beginning, from the Ethernet header on
}

// sample is struct sample of bpf/rules.h.
type sample struct {
	Time             uint64
	Length, Captured uint32
	Frame            [128]byte
}

// ErrNoGuard says that there is no guard on the port.
var ErrNoGuard = errors.New("there is no guard")

// Counters returns how many frames each reason stopped since the guard was
// attached or its rules were changed, and how many it let pass.
func Counters(port int) (pass uint64, drops map[Reason]uint64, err error) {
	var counts []byte
	if err = withGuard(port, dropsMap, func(m tcbpf.FD, s tcbpf.MapSpec) error {
		counts, err = perCPU(m, s)
		return err
	}); err != nil {
		return 0, nil, err
	}
	sums := map[Reason]uint64{}
	for i := range len(counts) / 8 {
		if n := binary.NativeEndian.Uint64(counts[8*i:]); n > 0 {
			sums[Reason(i%len(reasons))] += n
		}
	}
	pass = sums[passed]
	delete(sums, passed)
	return pass, sums, nil
}

// perCPU returns the value of a per-CPU array with one entry, of all CPUs in a row.
func perCPU(m tcbpf.FD, s tcbpf.MapSpec) ([]byte, error) {
	cpus, err := possibleCPUs()
	if err != nil {
		return nil, err
	}
	value := make([]byte, cpus*int(s.Value))
	return value, m.Get(0, value)
}

// possibleCPUs is how many values the kernel returns, for CPUs that are not
// there too. Their numbers need not be contiguous: the kernel leaves no gap.
func possibleCPUs() (n int, err error) {
	raw, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return 0, err
	}
	for part := range strings.SplitSeq(strings.TrimSpace(string(raw)), ",") {
		first, last, many := strings.Cut(part, "-")
		if !many {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("read number of CPUs: %w", err)
		}
		n += to - from + 1
	}
	return n, nil
}

// LastDrops returns the last frame that each reason stopped.
func LastDrops(port int) (map[Reason]Drop, error) {
	drops := map[Reason]Drop{}
	err := withGuard(port, lastMap, func(m tcbpf.FD, spec tcbpf.MapSpec) error {
		value := make([]byte, spec.Value)
		for i := range spec.Entries {
			if err := m.Get(i, value); err != nil {
				return err
			}
			var s sample
			if _, err := binary.Decode(value, binary.NativeEndian, &s); err != nil {
				return err
			}
			if s.Time != 0 {
				drops[Reason(i)] = Drop{Time: time.Duration(s.Time), Length: int(s.Length), Frame: s.Frame[:min(s.Captured, 128)]}
			}
		}
		return nil
	})
	return drops, err
}

// withGuard calls f with a map of the port's guard, of whatever version.
func withGuard(port int, name string, f func(tcbpf.FD, tcbpf.MapSpec) error) error {
	p, err := filter(port).Observe()
	if err != nil {
		return err
	}
	if p.ID == 0 {
		return ErrNoGuard
	}
	if err := withMap(p.ID, name, f); err != nil {
		return fmt.Errorf("read %s of link %d: %w", name, port, err)
	}
	return nil
}

var errNoMap = errors.New("the program has no such map")

// withMap calls f with the program's map of that name.
func withMap(program uint32, name string, f func(tcbpf.FD, tcbpf.MapSpec) error) error {
	p, err := tcbpf.ProgramByID(program)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoGuard // gone meanwhile
	}
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	m, spec, err := p.MapOf(name)
	if err != nil {
		return err
	}
	if m < 0 {
		return errNoMap
	}
	defer func() { _ = m.Close() }()
	return f(m, spec)
}
