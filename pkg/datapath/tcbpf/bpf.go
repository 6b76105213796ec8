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
		rest [2]uint32
	}
	getInfo struct {
		fd, size uint32
		info     unsafe.Pointer
		rest     [2]uint64
	}
	freeze      struct{ fd uint32 }
	programInfo struct {
		_     [4]uint32 // type, id, tag
		_     [2]uint32 // sizes of the code
		_     [3]uint64 // the code, and when it was loaded
		_     uint32
		count uint32
		ids   *[maxMaps]uint32
		_     [pad]byte
		_     uint32
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

// Put writes the element of an array.
func (f FD) Put(index uint32, value []byte) error {
	return f.element(unix.BPF_MAP_UPDATE_ELEM, index, value)
}

// Get reads the element of an array into value, which has its size; that of a
// per-CPU array is one value for each possible CPU.
func (f FD) Get(index uint32, value []byte) error {
	return f.element(unix.BPF_MAP_LOOKUP_ELEM, index, value)
}

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
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &getByID{id: id, rest: [2]uint32{}})
	return FD(fd), err
}

// MapOf returns the program's map of that name, and its size: the bytes of a
// value (on one CPU) and the number of them. It is -1 if there is none.
func (f FD) MapOf(name string) (FD, MapSpec, error) {
	info := new(programInfo)
	info.count, info.ids = maxMaps, new([maxMaps]uint32)
	if err := f.info(unsafe.Pointer(info), unsafe.Offsetof(info.ids)+8); err != nil {
		return -1, MapSpec{}, err
	}
	for _, id := range info.ids[:min(info.count, maxMaps)] {
		fd, err := bpf(unix.BPF_MAP_GET_FD_BY_ID, &getByID{id: id, rest: [2]uint32{}})
		if err != nil {
			return -1, MapSpec{}, err
		}
		s, err := FD(fd).spec()
		if err == nil && s.Name == name {
			return FD(fd), s, nil
		}
		if err = errors.Join(err, FD(fd).Close()); err != nil {
			return -1, MapSpec{}, err
		}
	}
	return -1, MapSpec{}, nil
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
