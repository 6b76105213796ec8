package guard

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// Names of the maps in the kernel, of at most 15 characters. The rules are the
// program's constants, which clang calls by another name.
const (
	rulesMap = "guard_rules"
	stormMap = programMapGuardStorm
	dropsMap = programMapGuardDrops
	lastMap  = programMapGuardLast
	rodata   = ".rodata"
)

// parsed is the program as it was compiled.
var parsed = sync.OnceValues(loadProgram)

// loaded is a program in the kernel, with its maps.
type loaded struct {
	*ebpf.Program
	maps []*ebpf.Map
}

func (l loaded) Close() error {
	var errs []error
	for _, m := range l.maps {
		errs = append(errs, m.Close())
	}
	if l.Program != nil {
		errs = append(errs, l.Program.Close())
	}
	return errors.Join(errs...)
}

// load hands a program with these rules, which must be canonical, to the kernel.
func load(spec *ebpf.CollectionSpec, r Rules) (l loaded, err error) {
	value, err := encode(r)
	if err != nil {
		return l, err
	}
	program := *spec.Programs[programProgGuard]
	program.Instructions = append(asm.Instructions(nil), program.Instructions...)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for _, name := range []string{rodata, dropsMap, lastMap, stormMap} {
		var m *ebpf.Map
		if m, err = newMap(spec.Maps[name], value); err != nil {
			return l, err
		}
		l.maps = append(l.maps, m)
		if err = program.Instructions.AssociateMap(name, m); err != nil {
			return l, fmt.Errorf("refer to map %s: %w", name, err)
		}
	}
	l.Program, err = tcbpf.Load(&program)
	return l, err
}

// newMap makes a map. Constants, of which the program must be sure when it is
// checked, cannot be changed by anybody any more.
func newMap(spec *ebpf.MapSpec, value []byte) (*ebpf.Map, error) {
	s := *spec
	if spec.Name == dropsMap {
		s.Key, s.Value = countersType()
	}
	if spec.Name != rodata {
		m, err := tcbpf.NewMap(&s)
		return m, refused(err, "make BPF map "+spec.Name)
	}
	s.Name, s.Contents, s.Key, s.Value = rulesMap, nil, nil, nil
	m, err := tcbpf.NewMap(&s)
	if err != nil {
		return nil, refused(err, "make BPF map "+rulesMap)
	}
	if err := m.Put(uint32(0), value); err != nil {
		return nil, errors.Join(refused(err, "write BPF map "+rulesMap), m.Close())
	}
	if err := m.Freeze(); err != nil {
		return nil, errors.Join(refused(err, "freeze BPF map "+rulesMap), m.Close())
	}
	return m, nil
}

// countersType is what bpftool calls the counters.
func countersType() (key, value btf.Type) {
	number := &btf.Int{Name: "u64", Size: 8}
	counters := &btf.Struct{Name: dropsMap, Size: uint32(8 * len(reasons))}
	for i, r := range reasons {
		counters.Members = append(counters.Members, btf.Member{
			Name: strings.ReplaceAll(r.name, "-", "_"), Type: number, Offset: btf.Bits(64 * i),
		})
	}
	return &btf.Int{Name: "u32", Size: 4}, counters
}

func refused(err error, doing string) error {
	if err == nil {
		return nil
	}
	return cnierr.New(cnierr.Kernel, "the guard needs Linux 5.10 or later with CONFIG_BPF_SYSCALL, and CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN",
		"%s: %w", doing, err)
}
