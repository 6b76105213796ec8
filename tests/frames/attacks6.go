package frames

// To6 is a frame of the guest to everybody.
func To6(src, dst string, next int, payload ...[]byte) []byte {
	return Eth(allNodesMAC, GuestMAC, TypeIPv6, IP6(src, dst, next, payload...))
}

// badNA claims the gateway's address.
var badNA = ND(136, Gateway6, LinkLayer(2, GuestMAC))

var ra = ICMP(134, Zeros(8), []byte{3, 4, 64, 0xc0}, Zeros(12), ip("fd00:bad::"))

var ip6Attacks = []Attempt{
	{"ip6/neighbour's source", Typical, Out(TypeIPv6, IP6(Neighbour6, Gateway6, ProtoUDP, UDP(1, 2))), "ip6-source"},
	{"ip6/neighbour's link-local source", Typical, Out(TypeIPv6, IP6(NeighbourLocal, GatewayLocal, ProtoICMPv6, ICMP(128))), "ip6-source"},
	{"ip6/gateway's source", Typical, Out(TypeIPv6, IP6(Gateway6, Neighbour6, ProtoTCP, TCP(1, 2))), "ip6-source"},
	{"ip6/gateway's link-local source", Typical, To6(GatewayLocal, allNodes, ProtoICMPv6, ICMP(128)), "ip6-source"},
	{"ip6/gateway in an own prefix", Wide, Out(TypeIPv6, IP6(Gateway6, Neighbour6, ProtoTCP, TCP(1, 2))), "ip6-source"},
	{"ip6/multicast source", Typical, Out(TypeIPv6, IP6("ff02::1", Gateway6, ProtoTCP, TCP(1, 2))), "ip6-source"},
	{"ip6/TCP from ::", Typical, Out(TypeIPv6, IP6("::", Gateway6, ProtoTCP, TCP(1, 2))), "ip6-unspecified"},
	{"ip6/fragment from ::", Typical, Out(TypeIPv6, IP6("::", Gateway6, pFragment, frag(ProtoUDP, 1, 0), Zeros(8))), "ip6-unspecified"},
	{"ip6/echo from ::", L2, Out(TypeIPv6, IP6("::", Gateway6, ProtoICMPv6, ICMP(128))), "ip6-unspecified"},
	{"ip6/truncated header", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoUDP))[:53], "truncated-ip6"},
	{"ip6/longer than the frame", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoTCP, TCP(1, 2)))[:70], "ip6-length"},
	{"ip6/version 4", Typical, patched(Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoTCP, TCP(1, 2))), 14, 0x45), "ip6-header"},
	{"ip6/jumbogram", Typical, patched(Out(TypeIPv6, IP6(Guest6, Gateway6, pHopByHop, []byte{ProtoTCP, 0, 0xc2, 4, 0, 1, 0, 0}, TCP(1, 2))), 18, 0, 0), "ip6-extension"},
	{"ip6/type 0 routing header", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pRouting, routing(0, 1), TCP(1, 2))), "ip6-routing"},
	{"ip6/type 0 routing header, used up", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pRouting, routing(0, 0), TCP(1, 2))), "ip6-routing"},
	{"ip6/segment routing past the rules", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pRouting, routing(4, 1), TCP(1, 2))), "ip6-routing"},
	{"ip6/hop-by-hop in the wrong place", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pOptions, ext(pHopByHop), ext(ProtoTCP), TCP(1, 2))), "ip6-extension"},
	{"ip6/chain without end", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pOptions, ext(pOptions), ext(pOptions), ext(pOptions), ext(pOptions), ext(ProtoTCP), TCP(1, 2))), "ip6-extension"},
	{"ip6/extension header cut off", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pOptions, []byte{ProtoTCP, 9}, Zeros(20))), "ip6-extension"},
	{"ip6/chain ends in nothing", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pHopByHop, ext(ProtoUDP), Zeros(7))), "truncated-transport"},
	{"ip6/fragment without the header", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(pOptions, 0, 1), []byte{ProtoICMPv6, 4}, Zeros(6))), "ip6-extension"},
	{"ip6/fragment with half a header", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(ProtoTCP, 0, 1), Zeros(8))), "truncated-transport"},
	{"ip6/fragment of a fragment", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(pFragment, 0, 0), frag(ProtoTCP, 0, 0), TCP(1, 2))), "ip6-fragment"},
	{"ip6/unknown header", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, 253, Zeros(40))), "ip6-protocol"},
	{"ip6/mobility header", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, 135, Zeros(40))), "ip6-protocol"},
	{"ip6/PIM hello", Typical, To6(GuestLocal, "ff02::d", 103, Zeros(20)), "ip6-protocol"},
	{"ip6/ICMPv4", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMP, ICMP(8))), "ip6-protocol"},
	{"ip6/later fragment of OSPF", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(89, 1, 0), Zeros(8))), "ip6-protocol"},
}

var ndAttacks = []Attempt{
	{"nd/NA for the gateway", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, badNA), "nd-target"},
	{"nd/NA for the gateway, unicast", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(Guest6, Neighbour6, ProtoICMPv6, badNA)), "nd-target"},
	{"nd/NA behind hop-by-hop", Typical, To6(GuestLocal, allNodes, pHopByHop, ext(ProtoICMPv6), badNA), "nd-target"},
	{"nd/NA behind destination options", Typical, To6(GuestLocal, allNodes, pOptions, ext(ProtoICMPv6), badNA), "nd-target"},
	{"nd/NA behind AH", Typical, To6(GuestLocal, allNodes, pAH, []byte{ProtoICMPv6, 4}, Zeros(22), badNA), "nd-target"},
	{"nd/NA in an atomic fragment", Typical, To6(GuestLocal, allNodes, pFragment, frag(ProtoICMPv6, 0, 0), badNA), "nd-fragment"},
	{"nd/own NA in an atomic fragment", Typical, To6(GuestLocal, allNodes, pFragment, frag(ProtoICMPv6, 0, 0), ND(136, Guest6)), "nd-fragment"},
	{"nd/NA for a neighbour", Typical, To6(Guest6, allNodes, ProtoICMPv6, ND(136, Neighbour6)), "nd-target"},
	{"nd/NA for a neighbour's link-local", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ND(136, NeighbourLocal)), "nd-target"},
	{"nd/NA for the gateway in an own prefix", Wide, To6(GuestLocal, allNodes, ProtoICMPv6, badNA), "nd-target"},
	{"nd/NA with a neighbour's MAC", Typical, To6(Guest6, allNodes, ProtoICMPv6, ND(136, Guest6, LinkLayer(2, NeighbourMAC))), "nd-option"},
	{"nd/NA without IPAM, another's MAC", L2, To6(Guest6, allNodes, ProtoICMPv6, ND(136, Guest6, LinkLayer(2, GatewayMAC))), "nd-option"},
	{"nd/NA from ::", Typical, To6("::", allNodes, ProtoICMPv6, ND(136, Guest6)), "ip6-unspecified"},
	{"nd/NS that poisons", Typical, To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6, LinkLayer(1, NeighbourMAC))), "nd-option"},
	{"nd/NS as the gateway", Typical, To6(Gateway6, "ff02::1:ff00:12", ProtoICMPv6, ND(135, Neighbour6, LinkLayer(1, GuestMAC))), "ip6-source"},
	{"nd/NS with option of length 0", Typical, To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6, []byte{14, 0}, Zeros(6))), "nd-option"},
	{"nd/NS with option past the end", Typical, To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6, []byte{14, 3}, Zeros(6))), "nd-option"},
	{"nd/NS with half an option", Typical, To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6, LinkLayer(1, GuestMAC)[:6])), "nd-option"},
	{"nd/NS with unknown option", Typical, To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6, []byte{4, 1}, Zeros(6))), "nd-option"},
	{"nd/NS cut off", Typical, To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6)[:23]), "truncated-transport"},
	{"nd/NS from afar", Typical, patched(To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6)), 21, 64), "nd-hop-limit"},
	{"nd/DAD denial for a neighbour", Typical, To6("::", "ff02::1:ff00:12", ProtoICMPv6, ND(135, Neighbour6)), "nd-target"},
	{"nd/DAD denial for the gateway", Typical, To6("::", "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6)), "nd-target"},
	{"nd/DAD denial for a link-local", Typical, To6("::", "ff02::1:ff00:12", ProtoICMPv6, ND(135, NeighbourLocal)), "nd-target"},
	{"nd/RS with another's MAC", Typical, To6(GuestLocal, "ff02::2", ProtoICMPv6, ICMP(133, LinkLayer(1, NeighbourMAC))), "nd-option"},
	{"nd/RA", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ra), "icmp6-type"},
	{"nd/RA without IPAM", L2, To6(GuestLocal, allNodes, ProtoICMPv6, ra), "icmp6-type"},
	{"nd/RA behind hop-by-hop", Typical, To6(GuestLocal, allNodes, pHopByHop, ext(ProtoICMPv6), ra), "icmp6-type"},
	{"nd/RA behind destination options", Typical, To6(GuestLocal, allNodes, pOptions, ext(ProtoICMPv6), ra), "icmp6-type"},
	{"nd/RA behind two headers", L2, To6(GuestLocal, allNodes, pHopByHop, ext(pOptions), ext(ProtoICMPv6), ra), "icmp6-type"},
	{"nd/RA in an atomic fragment", Typical, To6(GuestLocal, allNodes, pFragment, frag(ProtoICMPv6, 0, 0), ra), "icmp6-type"},
	{"nd/RA split over fragments", Typical, To6(GuestLocal, allNodes, pFragment, frag(pOptions, 0, 1), []byte{ProtoICMPv6, 1}, Zeros(6)), "ip6-extension"},
	{"nd/RA in a first fragment", Typical, To6(GuestLocal, allNodes, pFragment, frag(ProtoICMPv6, 0, 1), ra), "icmp6-type"},
	{"nd/redirect", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ICMP(137, ip(Gateway6), ip(Neighbour6))), "icmp6-type"},
	{"nd/MLD query", Typical, To6(GuestLocal, allNodes, pHopByHop, hopsAlert, ICMP(130, Zeros(20))), "icmp6-type"},
	{"nd/MLD report to everybody", Typical, Eth(Broadcast, GuestMAC, TypeIPv6, IP6(GuestLocal, "ff02::1:ff00:1", pHopByHop, hopsAlert, ICMP(131, ip("ff02::1:ff00:1")))), "multicast-report"},
	{"nd/MLD report that no bridge sees", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ICMP(131, ip("ff02::1:ff00:1"))), "multicast-report"},
	{"nd/MLDv2 report behind another header", L2, To6(GuestLocal, allNodes, pOptions, hopsAlert, mldReport), "multicast-report"},
	{"nd/MLD done to a neighbour", L2, Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(GuestLocal, "ff02::2", pHopByHop, hopsAlert, ICMP(132, Zeros(16)))), "multicast-report"},
	{"nd/MLD query without IPAM", L2, To6(GuestLocal, allNodes, ProtoICMPv6, ICMP(130, Zeros(20))), "icmp6-type"},
	{"nd/multicast router advertisement", Typical, To6(GuestLocal, "ff02::6a", ProtoICMPv6, ICMP(151)), "icmp6-type"},
	{"nd/router renumbering", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ICMP(138)), "icmp6-type"},
	{"nd/inverse advertisement", Typical, To6(GuestLocal, allNodes, ProtoICMPv6, ICMP(142)), "icmp6-type"},
}

var dhcpAttacks = []Attempt{
	{"dhcp/rogue server", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, "255.255.255.255", ProtoUDP, UDP(67, 68, bootp(2, NeighbourMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-server"},
	{"dhcp/rogue server, unicast", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoUDP, UDP(67, 68, bootp(2, NeighbourMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-server"},
	{"dhcp/rogue server, another port", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, "255.255.255.255", ProtoUDP, UDP(99, 68, bootp(2, NeighbourMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-server"},
	{"dhcp/rogue server without IPAM", L2, Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, "255.255.255.255", ProtoUDP, UDP(67, 68, Zeros(240)))), "dhcp4-server"},
	{"dhcp/rogue server in a fragment", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4f(Guest4, "255.255.255.255", ProtoUDP, 0x2000, nil, UDP(67, 68, Zeros(240)))), "dhcp4-server"},
	{"dhcp/starvation", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, dhcp("0.0.0.0", "255.255.255.255", "02:de:ad:00:00:01", "0.0.0.0")), "dhcp4-hardware"},
	{"dhcp/starvation without IPAM", L2, Eth(Broadcast, GuestMAC, TypeIPv4, dhcp("0.0.0.0", "255.255.255.255", "02:de:ad:00:00:01", "0.0.0.0")), "dhcp4-hardware"},
	{"dhcp/starvation by relay", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, UDP(68, 67, bootp(1, GuestMAC, "0.0.0.0", Guest4)))), "dhcp4-client"},
	{"dhcp/chaddr in a later fragment", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4f(Guest4, Gateway4, ProtoUDP, 0x2000, nil, UDP(68, 67, Zeros(8)))), "dhcp4-client"},
	{"dhcp/from another port", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, UDP(99, 67, bootp(1, GuestMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-client"},
	{"dhcp/too short", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, UDP(68, 67, Zeros(100)))), "dhcp4-client"},
	{"dhcp/release of a neighbour's lease", Typical, Out(TypeIPv4, dhcp(Guest4, Gateway4, GuestMAC, Neighbour4)), "dhcp4-ciaddr"},
	{"dhcp/rogue v6 server", Typical, To6(GuestLocal, NeighbourLocal, ProtoUDP, UDP(547, 546, []byte{2, 0, 0, 1})), "dhcp6-server"},
	{"dhcp/rogue v6 server, another port", L2, To6(GuestLocal, NeighbourLocal, ProtoUDP, UDP(99, 546, []byte{7, 0, 0, 1})), "dhcp6-server"},
	{"dhcp/v6 relay", Typical, To6(GuestLocal, "ff02::1:2", ProtoUDP, UDP(546, 547, []byte{12, 0, 0, 1})), "dhcp6-client"},
	{"dhcp/v6 reply to a server", Typical, To6(GuestLocal, "ff02::1:2", ProtoUDP, UDP(546, 547, []byte{7, 0, 0, 1})), "dhcp6-client"},
	{"dhcp/v6 in a fragment", Typical, To6(GuestLocal, "ff02::1:2", pFragment, frag(ProtoUDP, 0, 1), UDP(546, 547, []byte{1, 0, 0, 1})), "dhcp6-client"},
}

var reachAttacks = []Attempt{
	{"reach/neighbour through the gateway", Isolated, Out(TypeIPv4, IP4(Guest4, Neighbour4, ProtoTCP, TCP(1, 2))), "isolated"},
	{"reach/v6 neighbour through the gateway", Isolated, Out(TypeIPv6, IP6(Guest6, Neighbour6, ProtoTCP, TCP(1, 2))), "isolated"},
	{"reach/subnet broadcast", Isolated, Out(TypeIPv4, IP4(Guest4, "10.1.0.255", ProtoUDP, UDP(1, 2))), "isolated"},
	{"reach/later fragment to a neighbour", Isolated, Out(TypeIPv4, IP4f(Guest4, Neighbour4, ProtoUDP, 4, nil, Zeros(8))), "isolated"},
	{"reach/metadata", Typical, Out(TypeIPv4, IP4(Guest4, "169.254.169.254", ProtoTCP, TCP(1, 80))), "metadata-service"},
	{"reach/metadata without IPAM", L2, Out(TypeIPv4, IP4(Guest4, "169.254.169.254", ProtoTCP, TCP(1, 80))), "metadata-service"},
	{"reach/v6 metadata", Typical, Out(TypeIPv6, IP6(Guest6, "fd00:ec2::254", ProtoTCP, TCP(1, 80))), "metadata-service"},
}
