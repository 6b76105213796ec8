package frames

import (
	"encoding/binary"
	"slices"
)

// Sealed is the frame with right checksums, as far as its headers can be walked:
// a receiver that looks at them takes it.
func Sealed(frame []byte) []byte {
	f := slices.Clone(frame)
	at := 12
	for at+4 <= len(f) && (f[at] == 0x81 && f[at+1] == 0 || f[at] == 0x88 && f[at+1] == 0xa8) {
		at += 4
	}
	if at+2 > len(f) {
		return f
	}
	switch p := f[at+2:]; binary.BigEndian.Uint16(f[at:]) {
	case TypeIPv4:
		seal4(p)
	case TypeIPv6:
		seal6(p)
	}
	return f
}

func seal4(p []byte) {
	if len(p) < 20 {
		return
	}
	header := int(p[0]&15) * 4
	if header < 20 || header > len(p) {
		return
	}
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^sum(p[:header]))
	if end := int(binary.BigEndian.Uint16(p[2:])); end >= header && end <= len(p) && binary.BigEndian.Uint16(p[6:])&0x3fff == 0 {
		sealTransport(p[header:end], int(p[9]), p[12:20])
	}
}

func seal6(p []byte) {
	if len(p) < 40 {
		return
	}
	next, rest := int(p[6]), p[40:]
	for len(rest) >= 8 {
		length := 8 + 8*int(rest[1])
		switch next {
		case pHopByHop, pRouting, pOptions:
		case pFragment:
			if length = 8; binary.BigEndian.Uint16(rest[2:])&^6 != 0 {
				return
			}
		case pAH:
			length = 8 + 4*int(rest[1])
		default:
			sealTransport(rest, next, p[8:40])
			return
		}
		if length > len(rest) {
			return
		}
		next, rest = int(rest[0]), rest[length:]
	}
}

// sealTransport sets the checksum of what the addresses exchange.
func sealTransport(p []byte, protocol int, addresses []byte) {
	pseudo := Cat(addresses, Uint16(protocol, len(p)))
	at := map[int]int{ProtoTCP: 16, ProtoUDP: 6, ProtoICMP: 2, ProtoICMPv6: 2, pIGMP: 2}[protocol]
	if protocol == ProtoICMP || protocol == pIGMP {
		pseudo = nil
	}
	if at == 0 || len(p) < at+2 {
		return
	}
	p[at], p[at+1] = 0, 0
	binary.BigEndian.PutUint16(p[at:], ^sum(Cat(pseudo, p)))
}

// sum is that of RFC 1071.
func sum(b []byte) uint16 {
	var n uint32
	for i := 0; i+1 < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		n += uint32(b[len(b)-1]) << 8
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}
