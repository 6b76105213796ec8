package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cilium/ebpf"
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
	var perCPU [][]byte
	if err = withGuard(port, dropsMap, func(m *ebpf.Map) error { return m.Lookup(uint32(0), &perCPU) }); err != nil {
		return 0, nil, err
	}
	sums := map[Reason]uint64{}
	for _, counts := range perCPU {
		for i := 0; i < len(counts)/8; i++ {
			if n := binary.NativeEndian.Uint64(counts[8*i:]); n > 0 {
				sums[Reason(i)] += n
			}
		}
	}
	pass = sums[passed]
	delete(sums, passed)
	return pass, sums, nil
}

// LastDrops returns the last frame that each reason stopped.
func LastDrops(port int) (map[Reason]Drop, error) {
	drops := map[Reason]Drop{}
	err := withGuard(port, lastMap, func(m *ebpf.Map) error {
		for i := range m.MaxEntries() {
			value, err := m.LookupBytes(i)
			if err != nil {
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
func withGuard(port int, name string, f func(*ebpf.Map) error) error {
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
func withMap(program uint32, name string, f func(*ebpf.Map) error) error {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(program))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoGuard // gone meanwhile
	}
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		return err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		found, err := tryMap(id, name, f)
		if found || err != nil {
			return err
		}
	}
	return errNoMap
}

func tryMap(id ebpf.MapID, name string, f func(*ebpf.Map) error) (bool, error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return false, err
	}
	defer func() { _ = m.Close() }()
	info, err := m.Info()
	if err != nil || info.Name != name {
		return false, err
	}
	return true, f(m)
}
