// Package frames holds what tests let a guest send: attacks, and what must pass,
// each with its name. pkg/datapath/guard judges them one by one; tests/chain
// writes them into the tap of a guest that the plugins attached.
package frames

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// The stations of the tests' network.
const (
	GuestMAC       = "02:00:00:00:00:11"
	Guest4         = "10.1.0.11"
	Guest6         = "fd00:1::11"
	GuestLocal     = "fe80::ff:fe00:11"
	NeighbourMAC   = "02:00:00:00:00:12"
	Neighbour4     = "10.1.0.12"
	Neighbour6     = "fd00:1::12"
	NeighbourLocal = "fe80::ff:fe00:12"
	GatewayMAC     = "02:00:00:00:00:01"
	Gateway4       = "10.1.0.1"
	Gateway6       = "fd00:1::1"
	GatewayLocal   = "fe80::ff:fe00:1"
	PortMAC        = "fe:00:00:00:00:11"
	Broadcast      = "ff:ff:ff:ff:ff:ff"

	allNodes, allNodesMAC = "ff02::1", "33:33:00:00:00:01"
)

// EtherTypes.
const (
	TypeIPv4 = 0x0800
	TypeIPv6 = 0x86dd
	TypeARP  = 0x0806
	TypeVLAN = 0x8100

	tRARP, tQinQ = 0x8035, 0x88a8
)

// Protocols of IP.
const (
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMP   = 1
	ProtoICMPv6 = 58

	pHopByHop, pIGMP, pRouting, pFragment, pAH, pNone, pOptions = 0, 2, 43, 44, 51, 59, 60
)

// Typical are the rules of a guest with one address of each family.
var Typical = linkspec.Guard{
	MACs:      MACs(GuestMAC),
	Addresses: Prefixes(Guest4+"/32", Guest6+"/128"),
	Gateways:  []netip.Addr{netip.MustParseAddr(Gateway4), netip.MustParseAddr(Gateway6)},
}.Canonical()

// With is rules with a change.
func With(r linkspec.Guard, change func(*linkspec.Guard)) linkspec.Guard {
	change(&r)
	return r.Canonical()
}

// MACs are the addresses of those texts.
func MACs(all ...string) []net.HardwareAddr {
	var list []net.HardwareAddr
	for _, m := range all {
		list = append(list, MAC(m))
	}
	return list
}

// MAC is the address of that text.
func MAC(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// Prefixes are those of the texts.
func Prefixes(all ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range all {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func ip(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// Cat joins.
func Cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

// Uint16 are numbers of 16 bits.
func Uint16(v ...int) []byte {
	var b []byte
	for _, n := range v {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return b
}

// Zeros are so many bytes.
func Zeros(n int) []byte { return make([]byte, n) }

// Eth is an Ethernet frame.
func Eth(dst, src string, typ int, payload ...[]byte) []byte {
	return Cat(MAC(dst), MAC(src), Uint16(typ), Cat(payload...))
}

// Out is a frame of the guest to the gateway.
func Out(typ int, payload ...[]byte) []byte { return Eth(GatewayMAC, GuestMAC, typ, payload...) }

// ARP is a packet.
func ARP(op int, senderMAC, senderIP, targetMAC, targetIP string) []byte {
	return Cat(Uint16(1, TypeIPv4, 0x0604, op), MAC(senderMAC), ip(senderIP), MAC(targetMAC), ip(targetIP))
}

// IP4 is a packet without checksums.
func IP4(src, dst string, protocol int, payload ...[]byte) []byte {
	return IP4f(src, dst, protocol, 0, nil, payload...)
}

// IP4f is IPv4 with a fragment field and options.
func IP4f(src, dst string, protocol, fragment int, options []byte, payload ...[]byte) []byte {
	p := Cat(payload...)
	header := 20 + len(options)
	return Cat([]byte{byte(0x40 + header/4), 0}, Uint16(header+len(p), 1, fragment), []byte{64, byte(protocol), 0, 0}, ip(src), ip(dst), options, p)
}

// IP6 is a packet with a hop limit of 255.
func IP6(src, dst string, next int, payload ...[]byte) []byte {
	p := Cat(payload...)
	return Cat([]byte{0x60, 0, 0, 0}, Uint16(len(p)), []byte{byte(next), 255}, ip(src), ip(dst), p)
}

// UDP is a datagram.
func UDP(from, to int, payload ...[]byte) []byte {
	p := Cat(payload...)
	return Cat(Uint16(from, to, 8+len(p), 0), p)
}

// TCP is the header of a SYN.
func TCP(from, to int) []byte { return Cat(Uint16(from, to), Zeros(8), []byte{0x50, 2}, Zeros(6)) }

// ICMP is a message of either family.
func ICMP(typ int, body ...[]byte) []byte {
	return Cat([]byte{byte(typ), 0, 0, 0}, Zeros(4), Cat(body...))
}

// ND is a neighbour solicitation or advertisement with options.
func ND(typ int, target string, options ...[]byte) []byte {
	return ICMP(typ, ip(target), Cat(options...))
}

// LinkLayer is a link-layer address option.
func LinkLayer(kind int, m string) []byte { return Cat([]byte{byte(kind), 1}, MAC(m)) }

// ext is an extension header of 8 bytes, with a PadN in it.
func ext(next int) []byte { return []byte{byte(next), 0, 1, 4, 0, 0, 0, 0} }

// frag is a fragment header: offset in units of 8 bytes.
func frag(next, offset, more int) []byte {
	return Cat([]byte{byte(next), 0}, Uint16(offset<<3|more), Zeros(4))
}

func routing(kind, left int) []byte {
	return Cat([]byte{ProtoTCP, 2, byte(kind), byte(left)}, Zeros(4), ip(Neighbour6))
}

// dhcp is a request of a client, from the Ethernet header's payload on.
func dhcp(src, dst, chaddr, ciaddr string) []byte {
	return IP4(src, dst, ProtoUDP, UDP(68, 67, bootp(1, chaddr, ciaddr, "0.0.0.0")))
}

func bootp(op int, chaddr, ciaddr, giaddr string) []byte {
	return Cat([]byte{byte(op), 1, 6, 0}, Zeros(8), ip(ciaddr), Zeros(8), ip(giaddr), MAC(chaddr), Zeros(10+192), []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255})
}

// routerAlert is the one IPv4 option that passes.
var routerAlert = []byte{0x94, 4, 0, 0}
