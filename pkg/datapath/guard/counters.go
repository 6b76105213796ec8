package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
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
	err = withGuard(port, func(maps tcbpf.Maps) error {
		pass, drops, err = counters(maps, port)
		return err
	})
	return pass, drops, err
}

func counters(maps tcbpf.Maps, port int) (pass uint64, drops map[Reason]uint64, err error) {
	cpus, err := possibleCPUs()
	if err != nil {
		return 0, nil, err
	}
	counts, err := value(maps, dropsMap, uint32(port), cpus)
	if err != nil {
		return 0, nil, err
	}
	own, err := loaded{maps: maps}.identity(port)
	if err != nil {
		return 0, nil, err
	}
	drops = map[Reason]uint64{}
	for i := range len(counts) / 8 {
		if n := binary.NativeEndian.Uint64(counts[8*i:]); n > 0 {
			drops[Reason(i%len(reasons))] += n
		}
	}
	return own.Passed, drops, nil
}

// counting tells whether there is a place to count what is dropped at the port.
func counting(maps tcbpf.Maps, port int) (bool, error) {
	cpus, err := possibleCPUs()
	if err != nil {
		return false, err
	}
	for name, copies := range map[string]int{dropsMap: cpus, lastMap: 1} {
		if _, err := value(maps, name, uint32(port), copies); errors.Is(err, errNoMap) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// value reads an element of one of the maps, of which there are so many copies;
// errNoMap if there is none.
func value(maps tcbpf.Maps, name string, key uint32, copies int) ([]byte, error) {
	m, ok := maps[name]
	if !ok {
		return nil, errNoMap
	}
	v := make([]byte, copies*int(m.Value))
	err := m.Get(key, v)
	if errors.Is(err, fs.ErrNotExist) {
		err = errNoMap
	}
	return v, err
}

// possibleCPUs is how many values the kernel returns, for CPUs that are not
// there too. Their numbers need not be contiguous: the kernel leaves no gap.
var possibleCPUs = sync.OnceValues(func() (n int, err error) {
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
})

// LastDrops returns the last frame that each reason stopped.
func LastDrops(port int) (map[Reason]Drop, error) {
	drops := map[Reason]Drop{}
	err := withGuard(port, func(maps tcbpf.Maps) error {
		raw, err := value(maps, lastMap, uint32(port), 1)
		if err != nil {
			return err
		}
		samples := make([]sample, len(raw)/binary.Size(sample{}))
		if _, err := binary.Decode(raw, binary.NativeEndian, samples); err != nil {
			return err
		}
		for i, s := range samples {
			if s.Time != 0 {
				drops[Reason(i)] = Drop{Time: time.Duration(s.Time), Length: int(s.Length), Frame: s.Frame[:min(s.Captured, 128)]}
			}
		}
		return nil
	})
	return drops, err
}

// withGuard calls f with the maps of the port's guard, of whatever version.
func withGuard(port int, f func(tcbpf.Maps) error) error {
	p, err := filter(port).Observe()
	if err != nil {
		return err
	}
	if p.ID == 0 {
		return ErrNoGuard
	}
	if err := withMaps(p.ID, f); err != nil {
		return fmt.Errorf("read what the guard of link %d counted: %w", port, err)
	}
	return nil
}

var errNoMap = errors.New("the program knows nothing of the port")

// withMaps calls f with the program's maps.
func withMaps(program uint32, f func(tcbpf.Maps) error) error {
	p, err := tcbpf.ProgramByID(program)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoGuard // gone meanwhile
	}
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	maps, err := p.Maps()
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }()
	return f(maps)
}
