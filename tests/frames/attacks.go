package frames

import (
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Attempt is a frame that a guest sends, and what stops it.
type Attempt struct {
	Name  string // begins with its group
	Rules linkspec.Guard
	Frame []byte
	By    string // a reason of pkg/datapath/guard; "passed" for what is legitimate
}

// L2 are the rules of a guest without IPAM.
var L2 = With(Typical, func(r *linkspec.Guard) { r.L2Only, r.Addresses, r.Gateways = true, nil, nil })

// Isolated are those of one that is kept from its neighbours.
var Isolated = With(Typical, func(r *linkspec.Guard) { r.Isolate, r.Subnets = true, Prefixes("10.1.0.0/24", "fd00:1::/64") })

// Wide allows a prefix in which the gateways are.
var Wide = With(Typical, func(r *linkspec.Guard) { r.Addresses = Prefixes("10.1.0.0/24", "fd00:1::/64") })

// Attacks are all that the guard stops, group by group.
var Attacks = slices.Concat(macAttacks, arpAttacks, ip4Attacks, ip6Attacks, ndAttacks, dhcpAttacks, reachAttacks)

var macAttacks = []Attempt{
	{"mac/neighbour", Typical, Eth(GatewayMAC, NeighbourMAC, TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "source-mac"},
	{"mac/bridge", Typical, Eth(Broadcast, GatewayMAC, TypeARP, ARP(1, GatewayMAC, Guest4, Broadcast, Gateway4)), "source-mac"},
	{"mac/multicast", Typical, Eth(Broadcast, "03:00:00:00:00:11", TypeARP, ARP(1, GuestMAC, Guest4, Broadcast, Gateway4)), "source-mac"},
	{"mac/zero", Typical, Eth(Broadcast, "00:00:00:00:00:00", TypeARP, ARP(1, GuestMAC, Guest4, Broadcast, Gateway4)), "source-mac"},
	{"mac/without IPAM", L2, Eth(GatewayMAC, NeighbourMAC, TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "source-mac"},
	{"mac/bridge group, neighbour's", Typical, Eth("01:80:c2:00:00:00", NeighbourMAC, 0x27, Zeros(60)), "source-mac"},
	{"l2/BPDU", Typical, Eth("01:80:c2:00:00:00", GuestMAC, 0x26, []byte{0x42, 0x42, 3}, Zeros(40)), "link-local-group"},
	{"l2/LACP", Typical, Eth("01:80:c2:00:00:02", GuestMAC, 0x8809, Zeros(60)), "link-local-group"},
	{"l2/EAPOL", Typical, Eth("01:80:c2:00:00:03", GuestMAC, 0x888e, Zeros(60)), "link-local-group"},
	{"l2/LLDP", Typical, Eth("01:80:c2:00:00:0e", GuestMAC, 0x88cc, Zeros(60)), "link-local-group"},
	{"l2/MVRP", Typical, Eth("01:80:c2:00:00:21", GuestMAC, 0x88f5, Zeros(60)), "link-local-group"},
	{"l2/IPv4 to a bridge group", Typical, Eth("01:80:c2:00:00:0f", GuestMAC, TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "link-local-group"},
	{"l2/PVST", Typical, Eth("01:00:0c:cc:cc:cd", GuestMAC, 0x32, []byte{0xaa, 0xaa, 3}, Zeros(50)), "ethertype"},
	{"l2/SNAP around IPv4", Typical, Out(0x30, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, IP4(Neighbour4, Gateway4, ProtoTCP, TCP(1, 2))), "ethertype"},
	{"l2/802.1Q", Typical, Out(TypeVLAN, Uint16(7, TypeIPv4), IP4(Neighbour4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-stacked"},
	{"l2/priority tag", Typical, Out(TypeVLAN, Uint16(0, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-stacked"},
	{"l2/QinQ", Typical, Out(tQinQ, Uint16(7, TypeVLAN, 8, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-stacked"},
	{"l2/802.1Q without IPAM", L2, Out(TypeVLAN, Uint16(7, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-stacked"},
	{"l2/unknown ethertype", Typical, Out(0x88b5, Zeros(60)), "ethertype"},
	{"l2/MPLS", Typical, Out(0x8847, Zeros(60)), "ethertype"},
	{"l2/PPPoE discovery", L2, Out(0x8863, Zeros(60)), "ethertype"},
	{"l2/runt", Typical, Out(TypeIPv4), "truncated-ip4"},
	{"l2/RARP", Typical, Out(tRARP, ARP(3, GuestMAC, Guest4, GuestMAC, Guest4)), "ethertype"},
}

func arpFrame(op int, senderMAC, senderIP, targetMAC, targetIP string) []byte {
	return Eth(Broadcast, GuestMAC, TypeARP, ARP(op, senderMAC, senderIP, targetMAC, targetIP))
}

// patched is a frame with other bytes at an offset.
func patched(frame []byte, at int, b ...byte) []byte {
	frame = slices.Clone(frame)
	copy(frame[at:], b)
	return frame
}

// OwnARP asks for the gateway.
var OwnARP = arpFrame(1, GuestMAC, Guest4, Broadcast, Gateway4)

var arpAttacks = []Attempt{
	{"arp/reply for the gateway", Typical, arpFrame(2, GuestMAC, Gateway4, NeighbourMAC, Neighbour4), "arp-sender-ip"},
	{"arp/reply for a neighbour", Typical, arpFrame(2, GuestMAC, Neighbour4, GatewayMAC, Gateway4), "arp-sender-ip"},
	{"arp/announcement of the gateway", Typical, arpFrame(1, GuestMAC, Gateway4, Broadcast, Gateway4), "arp-sender-ip"},
	{"arp/request as a neighbour", Typical, arpFrame(1, GuestMAC, Neighbour4, Broadcast, Gateway4), "arp-sender-ip"},
	{"arp/poison the host", Typical, Out(TypeARP, ARP(1, GuestMAC, Neighbour4, GatewayMAC, Gateway4)), "arp-sender-ip"},
	{"arp/reply from nobody", Typical, arpFrame(2, GuestMAC, "0.0.0.0", GuestMAC, Guest4), "arp-sender-ip"},
	{"arp/gateway in an own prefix", Wide, arpFrame(2, GuestMAC, Gateway4, NeighbourMAC, Neighbour4), "arp-sender-ip"},
	{"arp/sender MAC of a neighbour", Typical, arpFrame(2, NeighbourMAC, Guest4, GatewayMAC, Gateway4), "arp-sender-mac"},
	{"arp/sender MAC without IPAM", L2, arpFrame(2, NeighbourMAC, Guest4, GatewayMAC, Gateway4), "arp-sender-mac"},
	{"arp/probe for a neighbour", Typical, arpFrame(1, GuestMAC, "0.0.0.0", Broadcast, Neighbour4), "arp-probe"},
	{"arp/probe for the gateway", Typical, arpFrame(1, GuestMAC, "0.0.0.0", Broadcast, Gateway4), "arp-probe"},
	{"arp/truncated", Typical, OwnARP[:41], "truncated-arp"},
	{"arp/hardware length", Typical, patched(OwnARP, 18, 7), "arp-format"},
	{"arp/protocol length", Typical, patched(OwnARP, 19, 16), "arp-format"},
	{"arp/hardware type", Typical, patched(OwnARP, 15, 6), "arp-format"},
	{"arp/protocol type", Typical, patched(OwnARP, 16, 0x86, 0xdd), "arp-format"},
	{"arp/reverse request", Typical, patched(OwnARP, 21, 3), "arp-operation"},
	{"arp/InARP", Typical, patched(OwnARP, 21, 8), "arp-operation"},
}

var ip4Attacks = []Attempt{
	{"ip4/neighbour's source", Typical, Out(TypeIPv4, IP4(Neighbour4, Gateway4, ProtoUDP, UDP(1, 2))), "ip4-source"},
	{"ip4/gateway's source", Typical, Out(TypeIPv4, IP4(Gateway4, Neighbour4, ProtoICMP, ICMP(8))), "ip4-source"},
	{"ip4/foreign source", Typical, Out(TypeIPv4, IP4("8.8.8.8", Gateway4, ProtoTCP, TCP(1, 2))), "ip4-source"},
	{"ip4/loopback source", Typical, Out(TypeIPv4, IP4("127.0.0.1", Gateway4, ProtoTCP, TCP(1, 2))), "ip4-source"},
	{"ip4/gateway in an own prefix", Wide, Out(TypeIPv4, IP4(Gateway4, Neighbour4, ProtoTCP, TCP(1, 2))), "ip4-source"},
	{"ip4/loose source route", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoUDP, 0, []byte{131, 7, 4, 10, 1, 0, 12, 0}, UDP(1, 2))), "ip4-options"},
	{"ip4/strict source route", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoUDP, 0, []byte{137, 7, 4, 10, 1, 0, 12, 0}, UDP(1, 2))), "ip4-options"},
	{"ip4/options to hide UDP", Typical, Out(TypeIPv4, IP4f(Guest4, "255.255.255.255", ProtoUDP, 0, []byte{1, 1, 1, 1}, UDP(67, 68, Zeros(240)))), "ip4-options"},
	{"ip4/IGMP with another option", Typical, Out(TypeIPv4, IP4f(Guest4, "224.0.0.1", pIGMP, 0, []byte{1, 1, 1, 1}, []byte{0x16}, Zeros(7))), "ip4-options"},
	{"ip4/from 0.0.0.0", Typical, Out(TypeIPv4, IP4("0.0.0.0", Gateway4, ProtoTCP, TCP(1, 2))), "ip4-unspecified"},
	{"ip4/from 0.0.0.0 to another port", Typical, Out(TypeIPv4, IP4("0.0.0.0", "255.255.255.255", ProtoUDP, UDP(68, 53))), "ip4-unspecified"},
	{"ip4/DHCP from 0.0.0.0 to a neighbour", Typical, Out(TypeIPv4, dhcp("0.0.0.0", Neighbour4, GuestMAC, "0.0.0.0")), "ip4-unspecified"},
	{"ip4/fragment from 0.0.0.0", Typical, Out(TypeIPv4, IP4f("0.0.0.0", "255.255.255.255", ProtoUDP, 1, nil, Zeros(300))), "ip4-unspecified"},
	{"ip4/fragment with half a header", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoTCP, 0x2000, nil, Zeros(8))), "truncated-transport"},
	{"ip4/fragment of a neighbour", Typical, Out(TypeIPv4, IP4f(Neighbour4, Gateway4, ProtoUDP, 1, nil, Zeros(8))), "ip4-source"},
	{"ip4/version 6", Typical, patched(Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, UDP(1, 2))), 14, 0x65), "ip4-header"},
	{"ip4/header of 16 bytes", Typical, patched(Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, UDP(1, 2))), 14, 0x44), "ip4-header"},
	{"ip4/truncated header", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP))[:33], "truncated-ip4"},
	{"ip4/longer than the frame", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2)))[:50], "ip4-length"},
	{"ip4/length 0", Typical, patched(Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), 16, 0, 0), "ip4-length"},
	{"ip4/no room for UDP", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, Zeros(7))), "truncated-transport"},
	{"ip4/ICMP redirect", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(5))), "icmp4-type"},
	{"ip4/router advertisement", L2, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(9))), "icmp4-type"},
	{"ip4/fragmentation needed to the world", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, patched(ICMP(3, IP4(Gateway4, "8.8.8.8", ProtoUDP, UDP(1, 2))), 1, 4, 0, 0, 0, 0, 2, 40))), "icmp-quote"},
	{"ip4/fragmentation needed from the gateway", Wide, Out(TypeIPv4, IP4(Guest4, Neighbour4, ProtoICMP, patched(ICMP(3, IP4(Neighbour4, Gateway4, ProtoUDP, UDP(1, 2))), 1, 4))), "icmp-quote"},
	{"ip4/unreachable neighbour", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(3, IP4(Gateway4, Neighbour4, ProtoUDP, UDP(1, 2))))), "icmp-quote"},
	{"ip4/time exceeded about a neighbour", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoICMP, 0x2000, nil, ICMP(11, IP4(Gateway4, Neighbour4, ProtoUDP, UDP(1, 2))))), "icmp-quote"},
	{"ip4/source quench", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(4, IP4(Gateway4, Neighbour4, ProtoTCP, TCP(1, 2))))), "icmp-quote"},
	{"ip4/parameter problem of somebody", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(12, IP4(Gateway4, Neighbour4, ProtoTCP, TCP(1, 2))))), "icmp-quote"},
	{"ip4/unreachable without a quote", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(3, Zeros(19)))), "icmp-quote"},
	{"ip4/IGMP query", Typical, Eth("01:00:5e:00:00:01", GuestMAC, TypeIPv4, IP4f(Guest4, "224.0.0.1", pIGMP, 0, routerAlert, []byte{0x11}, Zeros(7))), "igmp-type"},
	{"ip4/IGMP query without IPAM", L2, Eth("01:00:5e:00:00:01", GuestMAC, TypeIPv4, IP4("0.0.0.1", "224.0.0.1", pIGMP, []byte{0x11}, Zeros(7))), "igmp-type"},
	{"ip4/multicast router", Typical, Eth("01:00:5e:00:00:6a", GuestMAC, TypeIPv4, IP4(Guest4, "224.0.0.106", pIGMP, []byte{0x30}, Zeros(7))), "igmp-type"},
	{"ip4/IGMP report to everybody", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4f(Guest4, "239.1.1.1", pIGMP, 0, routerAlert, []byte{0x16, 0, 0, 0, 239, 1, 1, 1})), "multicast-report"},
	{"ip4/IGMP report to a neighbour", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, "239.1.1.1", pIGMP, []byte{0x16, 0, 0, 0, 239, 1, 1, 1})), "multicast-report"},
	{"ip4/to the loopback", L2, Out(TypeIPv4, IP4(Guest4, "127.0.0.1", ProtoTCP, TCP(1, 2))), "host"},
	{"ip4/IGMP in fragments", Typical, Eth("01:00:5e:00:00:01", GuestMAC, TypeIPv4, IP4f(Guest4, "224.0.0.1", pIGMP, 0x2000, nil, []byte{0x16}, Zeros(7))), "ip4-fragment"},
	{"ip4/IGMP cut off", Typical, Out(TypeIPv4, IP4(Guest4, "224.0.0.1", pIGMP, []byte{0x16}, Zeros(6))), "truncated-transport"},
	{"ip4/PIM hello", Typical, Out(TypeIPv4, IP4(Guest4, "224.0.0.13", 103, Zeros(20))), "ip4-protocol"},
	{"ip4/OSPF", Typical, Out(TypeIPv4, IP4(Guest4, "224.0.0.5", 89, Zeros(40))), "ip4-protocol"},
	{"ip4/VRRP", Typical, Out(TypeIPv4, IP4(Guest4, "224.0.0.18", 112, Zeros(20))), "ip4-protocol"},
	{"ip4/fragment of PIM", Typical, Out(TypeIPv4, IP4f(Guest4, "224.0.0.13", 103, 1, nil, Zeros(20))), "ip4-protocol"},
}
