package frames

import "encoding/binary"

// Offload is a frame whose checksum a guest leaves to the kernel: the sum begins at
// Start, and belongs At bytes after that.
type Offload struct {
	Attempt
	Start, At int
}

// Offloads are such frames. What the kernel writes is the guest's choice, and so is
// the place: it may be the address that the guest claims.
var Offloads = []Offload{
	{Attempt{"checksum/over ARP's sender", Typical, Cat(arpFrame(2, GuestMAC, Guest4, NeighbourMAC, Neighbour4), Zeros(8)), "checksum"}, 20, 10},
	{Attempt{"checksum/over ARP's target", Typical, Cat(arpFrame(1, GuestMAC, "0.0.0.0", Broadcast, Guest4), Zeros(8)), "checksum"}, 30, 10},
	{Attempt{"checksum/over the IPv4 source", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoUDP, UDP(1, 2, Zeros(8)))), "checksum"}, 20, 8},
	{Attempt{"checksum/over the IPv4 destination", Typical, Out(TypeIPv4, IP4(Guest4, "169.254.1.1", ProtoTCP, TCP(1, 80))), "checksum"}, 20, 12},
	{Attempt{"checksum/over UDP's ports", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoUDP, UDP(1234, 2, Zeros(240)))), "checksum"}, 34, 2},
	{Attempt{"checksum/just before UDP's", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoUDP, UDP(1234, 2, Zeros(240)))), "checksum"}, 34, 5},
	{Attempt{"checksum/just before TCP's", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "checksum"}, 34, 15},
	{Attempt{"checksum/over DHCP's hardware address", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, dhcp("0.0.0.0", "255.255.255.255", GuestMAC, "0.0.0.0")), "checksum"}, 34, 8 + 32},
	{Attempt{"checksum/over DHCP's op", Typical, Out(TypeIPv4, dhcp(Guest4, Gateway4, GuestMAC, Guest4)), "checksum"}, 34, 8},
	{Attempt{"checksum/over DHCP's op, by a byte", Typical, Out(TypeIPv4, dhcp(Guest4, Gateway4, GuestMAC, Guest4)), "checksum"}, 34, 7},
	{Attempt{"checksum/over DHCPv6's type", Typical, To6(GuestLocal, "ff02::1:2", ProtoUDP, UDP(546, 547, []byte{1, 0, 0, 1}, Zeros(8))), "checksum"}, 54, 7},
	{Attempt{"checksum/over the IPv6 source", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(Guest6, Neighbour6, ProtoUDP, UDP(1, 2, Zeros(8)))), "checksum"}, 20, 16},
	{Attempt{"checksum/over ICMPv6's type", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ICMP(128, Zeros(24))), "checksum"}, 54, 0},
	{Attempt{"checksum/over a type behind options", Typical, To6(GuestLocal, allNodes, pOptions, ext(ProtoICMPv6), ICMP(128, Zeros(24))), "checksum"}, 54, 8},
	{Attempt{"checksum/over an advertisement's target", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ND(136, Guest6, LinkLayer(2, GuestMAC))), "checksum"}, 54, 22},
	{Attempt{"checksum/over a later fragment", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoUDP, 185, nil, Zeros(600))), "checksum"}, 34, 6},
	{Attempt{"checksum/just before GRE", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 47, Zeros(64))), "checksum"}, 24, 9},
	{Attempt{"checksum/over the source of GRE, v6", Typical, Out(TypeIPv6, IP6(Guest6, "2001:db8::1", 47, Zeros(64))), "checksum"}, 20, 16},
	{Attempt{"checksum/over SCTP's ports", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 132, Uint16(1, 80), Zeros(60))), "checksum"}, 34, 2},
	{Attempt{"checksum/over ESP's index, v6", Typical, Out(TypeIPv6, IP6(Guest6, "2001:db8::1", 50, Zeros(64))), "checksum"}, 54, 0},
	{Attempt{"checksum/over a packet in a packet", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 4, IP4("10.9.9.9", "10.8.8.8", ProtoUDP, UDP(1, 2)))), "checksum"}, 34, 18},
	{Attempt{"checksum/in GRE without one", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 47, []byte{0, 0, 8, 0}, Zeros(64))), "checksum"}, 34, 4},
	{Attempt{"checksum/behind that of GRE", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 47, []byte{0x80, 0, 8, 0}, Zeros(64))), "checksum"}, 34, 5},
	{Attempt{"checksum/behind that of GRE, v6", Typical, Out(TypeIPv6, IP6(Guest6, "2001:db8::1", 47, []byte{0x80, 0, 8, 0}, Zeros(64))), "checksum"}, 54, 8},
	{Attempt{"checksum/in a later fragment of GRE", Typical, Out(TypeIPv4, IP4f(Guest4, "192.0.2.1", 47, 100, nil, Zeros(64))), "checksum"}, 34, 4},

	{Attempt{"checksum/of TCP", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoTCP, TCP(1, 2), Zeros(100))), "passed"}, 34, 16},
	{Attempt{"checksum/of UDP", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoUDP, UDP(1, 2, Zeros(100)))), "passed"}, 34, 6},
	{Attempt{"checksum/of TCP, v6", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(Guest6, Neighbour6, ProtoTCP, TCP(1, 2), Zeros(100))), "passed"}, 54, 16},
	{Attempt{"checksum/of UDP, v6, behind options", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(Guest6, Neighbour6, pOptions, ext(ProtoUDP), UDP(1, 2, Zeros(100)))), "passed"}, 62, 6},
	{Attempt{"checksum/of a packet inside one", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoUDP, UDP(1, 4789, Zeros(100)))), "passed"}, 92, 16},
	{Attempt{"checksum/of GRE", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, 47, []byte{0x80, 0, 8, 0}, Zeros(64))), "passed"}, 34, 4},
	{Attempt{"checksum/of GRE, v6", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(Guest6, Neighbour6, 47, []byte{0x80, 0, 8, 0}, Zeros(64))), "passed"}, 54, 4},
	{Attempt{"checksum/of a DHCP discovery", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, dhcp("0.0.0.0", "255.255.255.255", GuestMAC, "0.0.0.0")), "passed"}, 34, 6},
	{Attempt{"checksum/of a DHCP renewal", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, dhcp(Guest4, Neighbour4, GuestMAC, Guest4)), "passed"}, 34, 6},
	{Attempt{"checksum/of DHCPv6", Typical, To6(GuestLocal, "ff02::1:2", ProtoUDP, UDP(546, 547, []byte{1, 0, 0, 1}, Zeros(80))), "passed"}, 54, 6},
	{Attempt{"checksum/of ADDR-REG-INFORM", Typical, To6(Guest6, "ff02::1:2", ProtoUDP, UDP(546, 547, []byte{36, 0, 0, 1}, Zeros(80))), "passed"}, 54, 6},
}

// ChecksumOf is where a frame has its checksum of TCP or UDP; 0 for nowhere, as in
// a fragment that is not the first.
func ChecksumOf(f []byte) int {
	at := 12
	for binary.BigEndian.Uint16(f[at:]) == TypeVLAN {
		at += 4
	}
	next, l4 := 0, at+2
	switch binary.BigEndian.Uint16(f[at:]) {
	case TypeIPv4:
		if binary.BigEndian.Uint16(f[l4+6:])&0x1fff != 0 {
			return 0
		}
		next, l4 = int(f[l4+9]), l4+int(f[l4]&15)*4
	case TypeIPv6:
		next, l4 = int(f[l4+6]), l4+40
		for next == pHopByHop || next == pRouting || next == pOptions || next == pFragment || next == pAH {
			length := 8 + 8*int(f[l4+1])
			switch next {
			case pAH:
				length = 8 + 4*int(f[l4+1])
			case pFragment:
				if length = 8; binary.BigEndian.Uint16(f[l4+2:])&^7 != 0 {
					return 0
				}
			}
			next, l4 = int(f[l4]), l4+length
		}
	}
	switch next {
	case ProtoTCP:
		return l4 + 16
	case ProtoUDP:
		return l4 + 6
	}
	return 0
}
