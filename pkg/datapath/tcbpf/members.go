package tcbpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// kernelTypes is where the kernel tells of its types, in BTF.
const kernelTypes = "/sys/kernel/btf/vmlinux"

var errTypes = errors.New("not the kernel's types as expected")

// Members returns where members of a structure of the running kernel are, in bytes
// from its beginning, also those of unnamed structures inside it. It reads as much
// of the kernel's types as it takes to find them, which for struct sk_buff is a
// hundredth: package ebpf's reader takes them all in, for some 100 ms. The error is
// fs.ErrNotExist for a kernel that does not tell (CONFIG_DEBUG_INFO_BTF).
func Members(structure string, names ...string) ([]uint32, error) {
	f, err := os.Open(kernelTypes)
	if err != nil {
		return nil, err
	}
	at, err := membersIn(f, structure, names)
	return at, errors.Join(err, f.Close())
}

func membersIn(r io.ReaderAt, structure string, names []string) ([]uint32, error) {
	t, err := openTypes(r)
	if err != nil {
		return nil, err
	}
	for id := uint32(1); ; id++ {
		s, err := t.get(id)
		if err != nil {
			return nil, fmt.Errorf("find struct %s: %w", structure, err)
		}
		if s.kind != kindStruct {
			continue
		}
		name, err := t.text(s.name)
		if err != nil {
			return nil, err
		}
		if name != structure {
			continue
		}
		places := slices.Repeat([]uint32{absent}, len(names))
		if err := t.members(s, 0, names, places); err != nil {
			return nil, fmt.Errorf("read struct %s: %w", structure, err)
		}
		if i := slices.Index(places, absent); i >= 0 {
			return nil, fmt.Errorf("%w: struct %s has no %s", errTypes, structure, names[i])
		}
		return places, nil
	}
}

// types are as many of the kernel's types as were read, by ID.
type types struct {
	records, strings section
	offsets          []uint32 // of each record; there is none with ID 0
	end              uint32   // of the last of them
}

// record is a type as it is there.
type record struct {
	name, kind, count uint32
	bits              bool   // members may be bit fields
	rest              uint32 // where its members are
}

const (
	kindStruct = 4
	kindUnion  = 5
	absent     = 1<<32 - 1
	recordSize = 12
	memberSize = 12
	nesting    = 8 << 20 // bits: further inside than any structure is long
)

// following is how many bytes come after a record, by its kind (BTF_KIND_ of
// linux/btf.h), and how many more for each of what it counts.
var following = map[uint32][2]uint32{
	1:          {4, 0},  // INT
	2:          {},      // PTR
	3:          {12, 0}, // ARRAY
	kindStruct: {0, memberSize},
	kindUnion:  {0, memberSize},
	6:          {0, 8},  // ENUM
	7:          {},      // FWD
	8:          {},      // TYPEDEF
	9:          {},      // VOLATILE
	10:         {},      // CONST
	11:         {},      // RESTRICT
	12:         {},      // FUNC
	13:         {0, 8},  // FUNC_PROTO
	14:         {4, 0},  // VAR
	15:         {0, 12}, // DATASEC
	16:         {},      // FLOAT
	17:         {4, 0},  // DECL_TAG
	18:         {},      // TYPE_TAG
	19:         {0, 12}, // ENUM64
}

func openTypes(r io.ReaderAt) (*types, error) {
	var header struct {
		Magic                                      uint16
		Version, Flags                             uint8
		Size, Types, TypesLen, Strings, StringsLen uint32
	}
	raw := make([]byte, binary.Size(header))
	if _, err := r.ReadAt(raw, 0); err != nil {
		return nil, err
	}
	if _, err := binary.Decode(raw, binary.NativeEndian, &header); err != nil {
		return nil, err
	}
	if header.Magic != 0xeb9f || header.Version != 1 {
		return nil, errTypes
	}
	at := int64(header.Size)
	return &types{
		records: newSection(r, at+int64(header.Types), header.TypesLen),
		strings: newSection(r, at+int64(header.Strings), header.StringsLen),
		offsets: []uint32{0},
	}, nil
}

// get returns the type with that ID, and io.ErrUnexpectedEOF if there is none.
func (t *types) get(id uint32) (record, error) {
	for uint32(len(t.offsets)) <= id {
		s, err := t.at(t.end)
		if err != nil {
			return record{}, err
		}
		more, known := following[s.kind]
		if !known {
			return record{}, fmt.Errorf("%w: a type of kind %d", errTypes, s.kind)
		}
		t.offsets = append(t.offsets, t.end)
		t.end = s.rest + more[0] + s.count*more[1]
	}
	return t.at(t.offsets[id])
}

func (t *types) at(offset uint32) (record, error) {
	b, err := t.records.read(offset, recordSize)
	if err != nil {
		return record{}, err
	}
	info := binary.NativeEndian.Uint32(b[4:])
	return record{
		name: binary.NativeEndian.Uint32(b), kind: info >> 24 & 31, count: info & 0xffff, bits: info>>31 != 0, rest: offset + recordSize,
	}, nil
}

// members notes the places of members that have these names, where they have none
// yet. The structure begins that many bits from where places count.
func (t *types) members(s record, begin uint32, names []string, places []uint32) error {
	for i := range s.count {
		b, err := t.records.read(s.rest+i*memberSize, memberSize)
		if err != nil {
			return err
		}
		name, err := t.text(binary.NativeEndian.Uint32(b))
		if err != nil {
			return err
		}
		kind, offset := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:])
		if s.bits {
			offset &= 1<<24 - 1
		}
		if offset += begin; offset > nesting {
			return errTypes
		}
		if name == "" {
			inner, err := t.get(kind)
			if err != nil {
				return err
			}
			if inner.kind == kindStruct || inner.kind == kindUnion {
				if err := t.members(inner, offset, names, places); err != nil {
					return err
				}
			}
			continue
		}
		if n := slices.Index(names, name); n >= 0 && places[n] == absent && offset%8 == 0 {
			places[n] = offset / 8
		}
	}
	return nil
}

func (t *types) text(offset uint32) (string, error) {
	for n := uint32(64); ; n *= 2 {
		b, err := t.strings.read(offset, n)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", err
		}
		if text, _, ended := bytes.Cut(b, []byte{0}); ended {
			return string(text), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// section is a part of the types, as far as it was asked for: a few pages of some
// megabytes.
type section struct {
	r     *io.SectionReader
	pages map[int64][]byte
}

func newSection(r io.ReaderAt, at int64, n uint32) section {
	return section{io.NewSectionReader(r, at, int64(n)), map[int64][]byte{}}
}

// pageSize is how much the kernel gives for one read.
const pageSize = 1 << 12

// read returns n bytes at an offset, or what there is of them and
// io.ErrUnexpectedEOF. They are for reading only.
func (s *section) read(offset, n uint32) ([]byte, error) {
	at, end := int64(offset), int64(offset)+int64(n)
	var short error
	if end > s.r.Size() {
		end, short = max(s.r.Size(), at), io.ErrUnexpectedEOF
	}
	var b []byte
	for at < end {
		page, err := s.page(at / pageSize)
		if err != nil {
			return nil, err
		}
		part := page[at%pageSize : min(pageSize, at%pageSize+end-at)]
		if at += int64(len(part)); b == nil && at == end {
			return part, short
		}
		b = append(b, part...)
	}
	return b, short
}

func (s *section) page(i int64) ([]byte, error) {
	if page, ok := s.pages[i]; ok {
		return page, nil
	}
	page := make([]byte, min(pageSize, s.r.Size()-i*pageSize))
	if _, err := s.r.ReadAt(page, i*pageSize); err != nil {
		return nil, err
	}
	s.pages[i] = page
	return page, nil
}
