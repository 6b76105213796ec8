package frames

import "encoding/binary"

// IsFragment tells whether the frame is one of a packet of several, or of IPv6 one that
// says it might be.
func IsFragment(f []byte) bool {
	if len(f) < 34 {
		return false
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case TypeIPv4:
		return binary.BigEndian.Uint16(f[20:])&0x3fff != 0
	case TypeIPv6:
		next, rest := f[20], f[min(54, len(f)):]
		for len(rest) >= 8 {
			switch next {
			case 44:
				return true
			case 0, 43, 60:
			default:
				return false
			}
			next, rest = rest[0], rest[min(8*(int(rest[1])+1), len(rest)):]
		}
	}
	return false
}
