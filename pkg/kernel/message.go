package kernel

import (
	"encoding/binary"
	"iter"
	"strings"

	"golang.org/x/sys/unix"
)

// Netlink's numbers are in the byte order of the machine.
var native = binary.NativeEndian

// message is one netlink request in the making.
type message struct{ b []byte }

// newMessage begins a request of that type with the fixed part of its payload.
func newMessage(typ, flags uint16, body ...byte) *message {
	m := &message{b: make([]byte, unix.SizeofNlMsghdr, 256)}
	native.PutUint16(m.b[4:], typ)
	native.PutUint16(m.b[6:], flags|unix.NLM_F_REQUEST)
	m.b = append(m.b, body...)
	return m
}

// seal writes the fields of the header that are known last.
func (m *message) seal(seq uint32) []byte {
	native.PutUint32(m.b[0:], uint32(len(m.b)))
	native.PutUint32(m.b[8:], seq)
	return m.b
}

// attr adds an attribute.
func (m *message) attr(typ uint16, value []byte) *message {
	m.b = native.AppendUint16(m.b, uint16(unix.SizeofNlAttr+len(value)))
	m.b = native.AppendUint16(m.b, typ)
	m.b = append(m.b, value...)
	for len(m.b)%unix.NLA_ALIGNTO != 0 {
		m.b = append(m.b, 0)
	}
	return m
}

func (m *message) u32(typ uint16, v uint32) *message {
	return m.attr(typ, native.AppendUint32(nil, v))
}

// text adds a string and the zero that ends it.
func (m *message) text(typ uint16, v string) *message {
	return m.attr(typ, append([]byte(v), 0))
}

// nest adds an attribute that holds the attributes which fill adds.
func (m *message) nest(typ uint16, fill func()) *message {
	start := len(m.b)
	m.attr(typ|unix.NLA_F_NESTED, nil)
	fill()
	native.PutUint16(m.b[start:], uint16(len(m.b)-start))
	return m
}

// ifinfo is the fixed part of a message about the link of that index
// (struct ifinfomsg). Of the interface flags, those in change are set to flags.
func ifinfo(family uint8, index int, flags, change uint32) []byte {
	b := []byte{family, 0, 0, 0}
	b = native.AppendUint32(b, uint32(index))
	b = native.AppendUint32(b, flags)
	return native.AppendUint32(b, change)
}

// attrs walks the attributes in b, without the flags in their types. It ends at
// the first that is malformed.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			length := int(native.Uint16(b))
			if length < unix.SizeofNlAttr || length > len(b) {
				return
			}
			typ := native.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[unix.SizeofNlAttr:length]) {
				return
			}
			b = b[min(align(length), len(b)):]
		}
	}
}

// lookup returns the first attribute of that type, nil if there is none.
func lookup(b []byte, typ uint16) []byte {
	for t, v := range attrs(b) {
		if t == typ {
			return v
		}
	}
	return nil
}

// align rounds a length up to where the next attribute or message begins.
func align(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }

// textOf is the string in an attribute, up to its terminating zero.
func textOf(v []byte) string {
	s, _, _ := strings.Cut(string(v), "\x00")
	return s
}

// u32Of is the number in an attribute, 0 if it is too short to be one.
func u32Of(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return native.Uint32(v)
}

// flagOf tells whether an attribute of one byte says yes.
func flagOf(v []byte) bool { return len(v) > 0 && v[0] != 0 }
