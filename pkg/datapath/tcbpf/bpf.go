package tcbpf

import (
	"bytes"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FD is a BPF object of the kernel's, which ends with the last that refers to it.
type FD int

// FD is what Attach wants.
func (f FD) FD() int { return int(f) }

// Close gives the descriptor back. Closing none (-1) is no error.
func (f FD) Close() error {
	if f < 0 {
		return nil
	}
	return unix.Close(int(f))
}

// pad follows a pointer, which takes 8 bytes everywhere. Byte order is little
// endian where pointers are shorter.
const pad = 8 - unsafe.Sizeof(uintptr(0))

// Arguments of bpf(2): each is as much of union bpf_attr as its command needs,
// for the kernel takes the rest for zero. They have no padding, and what a
// literal sets to zero is written out: a field without a name need not be zero.
type (
	mapCreate struct {
		kind, key, value, entries, flags uint32
		innerFD, numaNode                uint32
		name                             [16]byte
		ifindex                          uint32
		btf, keyType, valueType          uint32
	}
	mapElement struct {
		fd    uint32
		_     uint32
		key   *uint32
		_     [pad]byte
		value *byte
		_     [pad]byte
		flags uint64
	}
	progLoad struct {
		kind, count uint32
		code        *byte
		_           [pad]byte
		license     *byte
		_           [pad]byte
		rest        [6]uint32 // log, kernel version, flags
		name        [16]byte
	}
	btfLoad struct {
		types *byte
		_     [pad]byte
		log   uint64
		size  uint32
		rest  [3]uint32
	}
	getByID struct {
		id   uint32
		next uint32 // what BPF_PROG_GET_NEXT_ID writes
		_    uint32
	}
	getInfo struct {
		fd, size uint32
		info     unsafe.Pointer
		rest     [2]uint64
	}
	freeze     struct{ fd uint32 }
	progAttach struct {
		target, program, kind uint32
		flags, replace        uint32
		_                     uint32 // relative to
		revision              uint64
	}
	progQuery struct { // the kernel writes into it
		target, kind uint32
		flags        [2]uint32
		ids          *[maxPlaces]uint32
		_            [pad]byte
		count        [2]uint32 // and nothing
		rest         [4]uint64 // flags, links and their flags, revision
	}
	programInfo struct {
		kind  uint32
		_     uint32 // id
		tag   [8]byte
		_     [2]uint32 // sizes of the code
		_     [3]uint64 // the code, and when it was loaded
		_     uint32
		count uint32
		ids   *[maxMaps]uint32
		_     [pad]byte
		name  [16]byte
	}
	mapInfo struct {
		kind, _, key, value, entries, flags uint32
		name                                [16]byte
	}
)

// maxMaps bounds how many maps of a program are looked at.
const maxMaps = 64

// attempts bounds how often a program is loaded that a signal interrupts.
const attempts = 30

// bpf does one command. What the argument points to is known to the garbage
// collector, which is why the pointers in it are pointers.
func bpf[T any](command int, attr *T) (int, error) {
	for range attempts {
		r, _, e := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch e {
		case 0:
			return int(r), nil
		case unix.EAGAIN, unix.EINTR:
			continue
		}
		return -1, e
	}
	return -1, unix.EAGAIN
}

// MapSpec is a map to be made.
type MapSpec struct {
	Name                             string // at most 15 characters
	Type, Key, Value, Entries, Flags uint32 // sizes in bytes

	// Types is BTF, with which bpftool names the parts of a value. Nothing else
	// depends on it.
	Types              []byte
	KeyType, ValueType uint32 // in Types
}

// Make makes the map.
func (s MapSpec) Make() (FD, error) {
	a := mapCreate{kind: s.Type, key: s.Key, value: s.Value, entries: s.Entries, flags: s.Flags, innerFD: 0, numaNode: 0, ifindex: 0}
	copy(a.name[:15], s.Name)
	if len(s.Types) > 0 {
		fd, err := bpf(unix.BPF_BTF_LOAD, &btfLoad{types: unsafe.SliceData(s.Types), size: uint32(len(s.Types)), log: 0, rest: [3]uint32{}})
		if err == nil {
			defer func() { _ = FD(fd).Close() }()
			a.btf, a.keyType, a.valueType = uint32(fd), s.KeyType, s.ValueType
		}
	}
	fd, err := bpf(unix.BPF_MAP_CREATE, &a)
	if errors.Is(err, unix.EPERM) && lockMemory() == nil {
		fd, err = bpf(unix.BPF_MAP_CREATE, &a)
	}
	return FD(fd), err
}

// Put writes the element of an array, or of a hash table with such a key.
func (f FD) Put(index uint32, value []byte) error {
	return f.element(unix.BPF_MAP_UPDATE_ELEM, index, value)
}

// Get reads an element into value, which has its size; that of a per-CPU map is
// one value for each possible CPU. unix.ENOENT says that there is none.
func (f FD) Get(index uint32, value []byte) error {
	return f.element(unix.BPF_MAP_LOOKUP_ELEM, index, value)
}

// Delete takes an element out of a hash table. unix.ENOENT says that there is none.
func (f FD) Delete(key uint32) error { return f.element(unix.BPF_MAP_DELETE_ELEM, key, nil) }

func (f FD) element(command int, index uint32, value []byte) error {
	_, err := bpf(command, &mapElement{fd: uint32(f), key: &index, value: unsafe.SliceData(value), flags: unix.BPF_ANY})
	return err
}

// Freeze keeps everybody, root too, from writing to the map.
func (f FD) Freeze() error {
	_, err := bpf(unix.BPF_MAP_FREEZE, &freeze{uint32(f)})
	return err
}

// ProgramByID returns a program in the kernel; unix.ENOENT if it is gone.
func ProgramByID(id uint32) (FD, error) {
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &getByID{id: id, next: 0})
	return FD(fd), err
}

// programAfter returns the id of the next program, of whatever kind.
func programAfter(id uint32) (uint32, error) {
	a := getByID{id: id, next: 0}
	_, err := bpf(unix.BPF_PROG_GET_NEXT_ID, &a)
	return a.next, err
}

// identity returns what the kernel calls the program, and the program's code; no
// tag if it is no filter.
func (f FD) identity() (name string, tag []byte, err error) {
	info := new(programInfo)
	err = f.info(unsafe.Pointer(info), unsafe.Sizeof(*info))
	if err != nil || info.kind != unix.BPF_PROG_TYPE_SCHED_CLS {
		return "", nil, err
	}
	return unix.ByteSliceToString(info.name[:]), info.tag[:], nil
}

// Map is a map of a program's. Its specification has no types.
type Map struct {
	FD
	MapSpec
}

// Maps returns the program's maps by name. The caller closes them.
func (f FD) Maps() (Maps, error) {
	info := new(programInfo)
	info.count, info.ids = maxMaps, new([maxMaps]uint32)
	if err := f.info(unsafe.Pointer(info), unsafe.Offsetof(info.ids)+8); err != nil {
		return nil, err
	}
	maps := Maps{}
	for _, id := range info.ids[:min(info.count, maxMaps)] {
		fd, err := bpf(unix.BPF_MAP_GET_FD_BY_ID, &getByID{id: id, next: 0})
		if err != nil {
			return nil, errors.Join(err, maps.Close())
		}
		s, err := FD(fd).spec()
		if err != nil {
			return nil, errors.Join(err, FD(fd).Close(), maps.Close())
		}
		if _, twice := maps[s.Name]; twice {
			s.Name += " of the same name"
		}
		maps[s.Name] = Map{FD(fd), s}
	}
	return maps, nil
}

// Maps are maps by name.
type Maps map[string]Map

// Close gives all of them back.
func (m Maps) Close() error {
	var errs []error
	for _, one := range m {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

func (f FD) spec() (MapSpec, error) {
	var info mapInfo
	err := f.info(unsafe.Pointer(&info), unsafe.Sizeof(info))
	name, _, _ := bytes.Cut(info.name[:], []byte{0})
	return MapSpec{Name: string(name), Type: info.kind, Key: info.key, Value: info.value, Entries: info.entries, Flags: info.flags}, err
}

func (f FD) info(to unsafe.Pointer, size uintptr) error {
	_, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &getInfo{fd: uint32(f), size: uint32(size), info: to, rest: [2]uint64{}})
	return err
}
