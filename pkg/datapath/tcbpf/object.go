package tcbpf

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the kernel's, before 6.18
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Object is a program as clang compiled it: one function in the section tc, maps
// in the section maps (struct map: type, sizes of key and value, entries, flags),
// and constants. Of what an object may have besides, it knows nothing.
//
// It is what package ebpf does for any object, in a tenth of the time: nothing is
// decoded, and the kernel is not asked what it can do.
type Object struct {
	Maps map[string]MapSpec // that of the constants is Constants

	code       []byte // instructions of 8 bytes, with nothing for the maps
	references []reference
	tags       [2][]byte // what kernels call the code, before 6.18 and since
}

// Constants is the name of the map of constants.
const Constants = ".rodata"

// reference is a load of a map's, or of a place in the constants.
type reference struct {
	at    int // in the code
	name  string
	value uint32 // the place in the constants
}

const (
	instruction = 8 // bytes
	wide        = 2 * instruction
	loadWide    = 0x18
	pseudoMap   = 1 << 4 // the source of an instruction that loads a map
	pseudoValue = 2 << 4
)

var errObject = errors.New("not an object of one program")

// ParseObject reads what clang compiled.
func ParseObject(raw []byte) (*Object, error) {
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	section := map[string][]byte{}
	for _, name := range []string{"tc", ".reltc", "maps", Constants} {
		s := f.Section(name)
		if s == nil {
			return nil, fmt.Errorf("%w: no section %s", errObject, name)
		}
		if section[name], err = s.Data(); err != nil {
			return nil, err
		}
	}
	o := &Object{code: section["tc"], Maps: map[string]MapSpec{
		Constants: {Type: unix.BPF_MAP_TYPE_ARRAY, Key: 4, Value: uint32(len(section[Constants])), Entries: 1, Flags: unix.BPF_F_RDONLY_PROG},
	}}
	for r := section[".reltc"]; len(r) >= 16; r = r[16:] {
		at, symbol := f.ByteOrder.Uint64(r), f.ByteOrder.Uint64(r[8:])>>32
		if symbol == 0 || symbol > uint64(len(symbols)) {
			return nil, errObject
		}
		s := symbols[symbol-1]
		if err := o.refer(f, int(at), s, section["maps"]); err != nil {
			return nil, err
		}
	}
	// What tells maps apart, and the place in them, does not count.
	short, long := sha1.Sum(o.code), sha256.Sum256(o.code) //nolint:gosec // see the import
	o.tags = [2][]byte{short[:8], long[:8]}
	return o, nil
}

// refer notes that the instruction loads the symbol.
func (o *Object) refer(f *elf.File, at int, s elf.Symbol, maps []byte) error {
	if at < 0 || at+wide > len(o.code) || o.code[at] != loadWide || int(s.Section) >= len(f.Sections) {
		return fmt.Errorf("%w: reference to %s", errObject, s.Name)
	}
	addend := o.code[at+4 : at+8]
	r := reference{at: at, name: s.Name}
	switch f.Sections[s.Section].Name {
	case Constants:
		r.name, r.value = Constants, uint32(s.Value)+f.ByteOrder.Uint32(addend)
		o.code[at+1] |= pseudoValue
	case "maps":
		o.code[at+1] |= pseudoMap
		var d [5]uint32
		if s.Value > uint64(len(maps)) {
			return fmt.Errorf("%w: map %s", errObject, s.Name)
		}
		if _, err := binary.Decode(maps[s.Value:], f.ByteOrder, &d); err != nil {
			return fmt.Errorf("read map %s: %w", s.Name, err)
		}
		o.Maps[s.Name] = MapSpec{Name: s.Name, Type: d[0], Key: d[1], Value: d[2], Entries: d[3], Flags: d[4]}
	default:
		return fmt.Errorf("%w: reference to %s", errObject, s.Name)
	}
	clear(addend)
	o.references = append(o.references, r)
	return nil
}

// HasTag tells whether the kernel's tag of a program, in hexadecimal, is that of
// this one.
func (o *Object) HasTag(tag string) bool {
	b, err := hex.DecodeString(tag)
	return err == nil && o.tagged(b)
}

// Tag is what kernels call the code, of which 6.18 was the last to change how.
func (o *Object) Tag() string { return hex.EncodeToString(o.tags[1]) }

func (o *Object) tagged(tag []byte) bool {
	return bytes.Equal(tag, o.tags[0]) || bytes.Equal(tag, o.tags[1])
}

// Find returns a program in the kernel with this code, and its maps, that ok
// takes. The caller closes both; -1 and nil are none. A look at a program takes a few
// microseconds, and a host may have hundreds: those of others are mostly all older, or
// all newer, so the search comes from both ends. It takes CAP_SYS_ADMIN.
func (o *Object) Find(ok func(FD, Maps) bool) (FD, Maps, error) {
	ids, err := programs()
	if err != nil {
		return -1, nil, err
	}
	for _, id := range fromBothEnds(ids) {
		p, err := ProgramByID(id)
		if errors.Is(err, unix.ENOENT) { // gone since
			continue
		}
		var maps Maps
		if err == nil {
			p, maps, err = o.take(p, ok)
		}
		if err != nil || p >= 0 {
			return p, maps, err
		}
	}
	return -1, nil, nil
}

// programs are the ids of all programs in the kernel, oldest first.
func programs() (ids []uint32, err error) {
	for id := uint32(0); ; ids = append(ids, id) {
		if id, err = programAfter(id); errors.Is(err, unix.ENOENT) {
			return ids, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// fromBothEnds is the first, the last, the second, the last but one, and so on.
func fromBothEnds(ids []uint32) []uint32 {
	order := make([]uint32, 0, len(ids))
	for len(ids) > 0 {
		order = append(order, ids[0])
		if ids = ids[1:]; len(ids) > 0 {
			order = append(order, ids[len(ids)-1])
			ids = ids[:len(ids)-1]
		}
	}
	return order
}

// take returns the program and its maps if it has this code and ok takes it. Else it
// closes it, and returns none.
func (o *Object) take(p FD, ok func(FD, Maps) bool) (FD, Maps, error) {
	_, tag, err := p.identity()
	var maps Maps
	if err == nil && o.tagged(tag) {
		if maps, err = p.Maps(); err == nil && ok(p, maps) {
			return p, maps, nil
		}
	}
	return -1, nil, errors.Join(err, p.Close(), maps.Close())
}

// Load hands the program to the kernel, with these maps. The caller closes it in
// any case: the kernel keeps what is attached.
func (o *Object) Load(name, license string, maps Maps) (FD, error) {
	code := bytes.Clone(o.code)
	for _, r := range o.references {
		binary.NativeEndian.PutUint32(code[r.at+4:], uint32(maps[r.name].FD))
		binary.NativeEndian.PutUint32(code[r.at+instruction+4:], r.value)
	}
	return load(code, name, license)
}

// load hands code to the kernel. It lifts the limit on locked memory only for a
// kernel that turns out to count programs against it.
func load(code []byte, name, license string) (FD, error) {
	zeroed := append([]byte(license), 0)
	a := progLoad{
		kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(code) / instruction), code: unsafe.SliceData(code), license: unsafe.SliceData(zeroed), rest: [6]uint32{},
	}
	copy(a.name[:15], name)
	fd, err := bpf(unix.BPF_PROG_LOAD, &a)
	if errors.Is(err, unix.EPERM) && lockMemory() == nil {
		fd, err = bpf(unix.BPF_PROG_LOAD, &a)
	}
	if err != nil {
		return -1, refused(err, name)
	}
	return FD(fd), nil
}
