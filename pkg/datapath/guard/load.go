package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// Names of the maps in the kernel, of at most 15 characters. The rules are the
// program's constants, which clang calls by another name.
const (
	rulesMap = "guard_rules"
	portsMap = "guard_ports"
	dropsMap = "guard_drops"
	lastMap  = "guard_last"
)

// loaded is a program in the kernel, with its maps.
type loaded struct {
	program tcbpf.FD
	maps    tcbpf.Maps
}

// noProgram is what there is to close where nothing is.
func noProgram() loaded { return loaded{program: -1} }

func (l loaded) Close() error { return errors.Join(l.program.Close(), l.maps.Close()) }

// find returns a program with these constants that is in the kernel already, and
// that ok takes; one without a descriptor if there is none. Where one is kept there is
// nothing to search.
func (w wanted) find(ok func(loaded) bool) (loaded, error) {
	fits := func(p tcbpf.FD, maps tcbpf.Maps) bool {
		there, err := value(maps, rulesMap, 0, 1)
		return err == nil && alike(there, w.shared) && ok(loaded{p, maps})
	}
	program, err := w.program()
	if err != nil {
		return noProgram(), err
	}
	p, maps, err := program.Pinned(w.path(program), fits)
	if err == nil && p >= 0 {
		return loaded{p, maps}, nil
	}
	p, maps, err = program.Find(fits)
	if errors.Is(err, fs.ErrPermission) { // but it may load one
		err = nil
	}
	return loaded{p, maps}, err
}

// load hands a program with these constants to the kernel.
func (w wanted) load() (loaded, error) {
	l, _, err := w.loadSome()
	return l, err
}

// loadSome loads a program that reads in the kernel's packets where a checksum goes,
// or one that finds out in another way, and why it is that.
func (w wanted) loadSome() (l loaded, blind, err error) {
	p, blind := packets()
	if blind == nil {
		if l, blind = w.loadFor(p); blind == nil {
			return l, nil, nil
		}
	}
	p.CsumStart, p.MACHeader = 0, 0
	l, err = w.loadFor(p)
	return l, blind, err
}

// packets returns what the program has to know of this kernel's packets, and why that is
// not all.
func packets() (p packet, blind error) {
	if tcbpf.KernelAtLeast(5, 12) { // bpf_check_mtu()
		p.ChecksMTU = 1
	}
	at, err := tcbpf.Members("sk_buff", "csum_start", "csum_offset", "mac_header")
	if err != nil {
		return p, err
	}
	steps := (at[2] - at[0]) / 2
	if at[1] != at[0]+2 || at[2] <= at[0] || at[2]%2 != at[0]%2 || steps >= window { // the program reads all of it at once
		return p, fmt.Errorf("csum_start, csum_offset and mac_header of struct sk_buff are at %d", at)
	}
	p.CsumStart, p.MACHeader = at[0], steps
	return p, nil
}

func (w wanted) loadFor(p packet) (l loaded, err error) {
	shared, err := inPackets(w.shared, p)
	if err != nil {
		return noProgram(), err
	}
	program, err := w.program()
	if err != nil {
		return noProgram(), err
	}
	l = loaded{program: -1, maps: tcbpf.Maps{}}
	for name, spec := range program.Maps {
		var m tcbpf.FD
		switch name {
		case tcbpf.Constants:
			m, err = frozen(spec, shared)
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
		l.maps[name] = tcbpf.Map{FD: m, MapSpec: spec}
	}
	if l.program, err = program.Load("guard", "Dual BSD/GPL", l.maps); err != nil {
		return l, errors.Join(err, l.Close())
	}
	return l, nil
}

// errTaken says that another port has the place.
var errTaken = errors.New("the port's place is taken")

// admit tells the program of a port, and begins its counters anew; errTaken if
// there is no place for it.
func (l loaded) admit(port int, own identity) error {
	cpus, err := possibleCPUs()
	if err != nil {
		return err
	}
	if err := l.vacate(port); err != nil {
		return err
	}
	for name, copies := range map[string]int{lastMap: 1, dropsMap: cpus} {
		m := l.maps[name]
		if err := m.Put(uint32(port), make([]byte, copies*int(m.Value))); err != nil {
			return refused(err, "write BPF map "+name)
		}
	}
	// The port's name comes last: half of the rules are heard by nobody.
	for _, own.Ifindex = range []uint32{0, uint32(port)} {
		value := bytesOf(&own)
		if m := l.maps[portsMap]; len(value) != int(m.Value) {
			return fmt.Errorf("the program has %d bytes of rules for a port, the plugin %d", m.Value, len(value))
		} else if err := m.Put(place(port), value); err != nil {
			return refused(err, "write BPF map "+portsMap)
		}
	}
	return nil
}

// place is that of a port in guard_ports.
func place(port int) uint32 { return uint32(port) % ports }

// ports is PORTS in bpf/rules.h.
const ports = 1024

// vacate makes a port's place free, if it is of one that is gone: nobody says so
// when a port goes.
func (l loaded) vacate(port int) error {
	there, err := l.identity(port)
	if err != nil || there.Ifindex == 0 || there.Ifindex == uint32(port) {
		return err
	}
	if here, err := tcbpf.LinkExists(there.Ifindex); err != nil || here {
		return errors.Join(err, errTaken)
	}
	for _, name := range []string{dropsMap, lastMap} {
		if err := l.maps[name].Delete(there.Ifindex); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refused(err, "write BPF map "+name)
		}
	}
	return nil
}

// identity is what is in the port's place.
func (l loaded) identity(port int) (id identity, err error) {
	raw, err := value(l.maps, portsMap, place(port), 1)
	if err != nil {
		return id, err
	}
	return id, fill(&id, raw)
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
		9, kindStruct | uint32(len(reasons)-1), uint32(8 * len(reasons)),
	}
	for i, r := range reasons {
		if Reason(i) == passed { // counted elsewhere
			continue
		}
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
