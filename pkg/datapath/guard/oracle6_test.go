package guard

import (
	"bytes"
	"encoding/binary"

	"github.com/gopacket/gopacket/layers"
)

// packet6 is IPv6 behind its headers.
type packet6 struct {
	nobody   bool // from ::
	hops     byte
	fragment bool // any, also the only one
	later    bool // not the first
	first    byte // header
	protocol byte
	payload  []byte
}

func (o *oracle) ip6Allowed(b []byte) bool {
	if len(b) < 40 || b[0]>>4 != 6 {
		return false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	src, dst, rest := b[8:24], b[24:40], b[40:]
	if length > len(rest) {
		return false
	}
	p := packet6{nobody: none(src), hops: b[7], first: b[6], protocol: b[6], payload: rest[:length]}
	if !p.nobody && !o.own(src) || !o.reachable(dst) || !p.unwrap() || p.fragment && o.segments {
		return false
	}
	if p.later {
		return !p.nobody && (p.protocol == 58 || p.protocol == 6 || p.protocol == 17 || p.protocol == 60 || p.protocol == 51 || o.ordinary(p.protocol))
	}
	if p.protocol == 58 {
		return o.icmp6Allowed(p)
	}
	if p.nobody {
		return false
	}
	switch p.protocol {
	case 59:
		return true
	case 6:
		return len(p.payload) >= 20
	case 17:
		return len(p.payload) >= 8 && o.udp6Allowed(p)
	}
	return o.ordinary(p.protocol)
}

// unwrap takes the extension headers off, of which there are three at most.
func (p *packet6) unwrap() bool {
	for n := 0; ; n++ {
		if bytes.IndexByte([]byte{0, 43, 44, 51, 60}, p.protocol) < 0 {
			return true
		}
		h := p.payload
		if n == 4 || len(h) < 8 || p.protocol == 0 && n > 0 {
			return false
		}
		size := 8 * (1 + int(h[1]))
		switch p.protocol {
		case 44:
			if p.fragment {
				return false
			}
			size = 8
			p.fragment, p.later = true, binary.BigEndian.Uint16(h[2:])>>3 != 0
		case 43:
			if h[2] == 0 || h[3] != 0 {
				return false
			}
		case 51:
			size = 4 * (2 + int(h[1]))
		}
		if size > len(h) {
			return false
		}
		p.protocol, p.payload = h[0], h[size:]
		if p.later {
			return true
		}
		if n == 3 {
			return false
		}
	}
}

func (o *oracle) udp6Allowed(p packet6) bool {
	from, to := binary.BigEndian.Uint16(p.payload), binary.BigEndian.Uint16(p.payload[2:])
	if from == 547 || to == 546 {
		return false
	}
	if to != 547 {
		return true
	}
	return !p.fragment && !o.segments && len(p.payload) >= 12 && bytes.IndexByte([]byte{1, 3, 4, 5, 6, 8, 9, 11, 36}, p.payload[8]) >= 0
}

func (o *oracle) icmp6Allowed(p packet6) bool {
	if len(p.payload) < 8 || o.icmp.DecodeFromBytes(p.payload, o) != nil {
		return false
	}
	body := o.icmp.Payload
	near := !p.fragment && p.hops == 255
	switch o.icmp.TypeCode.Type() {
	case layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6TypePacketTooBig, layers.ICMPv6TypeTimeExceeded, layers.ICMPv6TypeParameterProblem:
		if p.nobody || len(p.payload) < 48 {
			return false
		}
		about := p.payload[32:48]
		return about[0] == 0xff || o.own(about)
	case layers.ICMPv6TypeEchoRequest, layers.ICMPv6TypeEchoReply:
		return !p.nobody
	case layers.ICMPv6TypeMLDv1MulticastListenerReportMessage, layers.ICMPv6TypeMLDv1MulticastListenerDoneMessage,
		layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2:
		return !p.fragment && p.first == 0 && o.snooped()
	case layers.ICMPv6TypeRouterSolicitation:
		o.rs.Options = o.rs.Options[:0]
		return near && o.rs.DecodeFromBytes(body, o) == nil && o.optionsAllowed(o.rs.Options, layers.ICMPv6OptSourceAddress)
	case layers.ICMPv6TypeNeighborSolicitation:
		o.ns.Options = o.ns.Options[:0]
		return near && o.ns.DecodeFromBytes(body, o) == nil && (!p.nobody || o.own(o.ns.TargetAddress)) &&
			o.optionsAllowed(o.ns.Options, layers.ICMPv6OptSourceAddress, 14)
	case layers.ICMPv6TypeNeighborAdvertisement:
		o.na.Options = o.na.Options[:0]
		return near && !p.nobody && o.na.DecodeFromBytes(body, o) == nil && o.own(o.na.TargetAddress) &&
			o.optionsAllowed(o.na.Options, layers.ICMPv6OptTargetAddress)
	}
	return false
}

// optionsAllowed knows at most two options: the sender's MAC address, and others
// that are harmless.
func (o *oracle) optionsAllowed(options layers.ICMPv6Options, address layers.ICMPv6Opt, harmless ...layers.ICMPv6Opt) bool {
	for _, opt := range options {
		if opt.Type == address {
			if !bytes.Equal(opt.Data, o.eth.SrcMAC) {
				return false
			}
		} else if len(harmless) == 0 || opt.Type != harmless[0] {
			return false
		}
	}
	return len(options) <= 2
}
