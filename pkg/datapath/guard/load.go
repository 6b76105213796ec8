package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// Names of the maps in the kernel, of at most 15 characters. The rules are the
// program's constants, which clang calls by another name.
const (
	rulesMap = "guard_rules"
	stormMap = "guard_storm"
	dropsMap = "guard_drops"
	lastMap  = "guard_last"
)

// loaded is a program in the kernel, with its maps.
type loaded struct {
	program tcbpf.FD
	maps    map[string]tcbpf.FD
}

func (l loaded) Close() error {
	errs := []error{l.program.Close()}
	for _, m := range l.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// load hands a program with these rules, which must be canonical, to the kernel.
func load(program *tcbpf.Object, r Rules) (loaded, error) {
	l := loaded{program: -1, maps: map[string]tcbpf.FD{}}
	value, err := encode(r)
	if err != nil {
		return l, err
	}
	for name, spec := range program.Maps {
		var m tcbpf.FD
		switch name {
		case tcbpf.Constants:
			m, err = frozen(spec, value)
		case dropsMap:
			spec.Types, spec.KeyType, spec.ValueType = countersTypes(), countersKey, countersValue
			fallthrough
		default:
			m, err = spec.Make()
			err = refused(err, "make BPF map "+name)
		}
		if err != nil {
			return l, errors.Join(err, l.Close())
		}
		l.maps[name] = m
	}
	if l.program, err = program.Load("guard", "Dual BSD/GPL", l.maps); err != nil {
		return l, errors.Join(err, l.Close())
	}
	return l, nil
}

// frozen makes the map of the constants, of which the program must be sure when
// it is checked: nobody can change them any more.
func frozen(spec tcbpf.MapSpec, value []byte) (tcbpf.FD, error) {
	if int(spec.Value) != len(value) {
		return -1, fmt.Errorf("the program has %d bytes of rules, the plugin %d", spec.Value, len(value))
	}
	spec.Name = rulesMap
	m, err := spec.Make()
	if err != nil {
		return m, refused(err, "make BPF map "+rulesMap)
	}
	if err := m.Put(0, value); err != nil {
		return -1, errors.Join(refused(err, "write BPF map "+rulesMap), m.Close())
	}
	if err := m.Freeze(); err != nil {
		return -1, errors.Join(refused(err, "freeze BPF map "+rulesMap), m.Close())
	}
	return m, nil
}

// The types of guard_drops: its key, and a struct with a member for each reason.
const (
	countersKey    = 1
	countersMember = 2
	countersValue  = 3
)

// countersTypes is what bpftool calls the counters, in BTF.
func countersTypes() []byte {
	const (
		kindInt    = 1 << 24
		kindStruct = 4 << 24
	)
	text := "\x00u32\x00u64\x00" + dropsMap + "\x00"
	types := []uint32{
		1, kindInt, 4, 32, // u32, 32 bits
		5, kindInt, 8, 64,
		9, kindStruct | uint32(len(reasons)), uint32(8 * len(reasons)),
	}
	for i, r := range reasons {
		types = append(types, uint32(len(text)), countersMember, uint32(64*i))
		text += strings.ReplaceAll(r.name, "-", "_") + "\x00"
	}
	size := uint32(4 * len(types))
	b, _ := binary.Append(nil, binary.NativeEndian, []uint32{
		1<<16 | 0xeb9f, 24, 0, size, size, uint32(len(text)), // magic, version 1; the header; types; text
	})
	b, _ = binary.Append(b, binary.NativeEndian, types)
	return append(b, text...)
}

func refused(err error, doing string) error {
	if err == nil {
		return nil
	}
	return cnierr.New(cnierr.Kernel, "the guard needs Linux 5.10 or later with CONFIG_BPF_SYSCALL, and CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN",
		"%s: %w", doing, err)
}
