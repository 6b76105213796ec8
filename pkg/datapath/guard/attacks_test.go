package guard

import "slices"

// attempt is a frame that a guest sends, and what stops it.
type attempt struct {
	name  string
	rules Rules
	frame []byte
	by    string // a reason; "passed" for what is legitimate
}

var l2 = with(typical, func(r *Rules) { r.L2Only, r.Addresses, r.Gateways = true, nil, nil })

var isolated = with(typical, func(r *Rules) { r.Isolate, r.Subnets = true, prefixes("10.1.0.0/24", "fd00:1::/64") })

// wide allows a prefix in which the gateways are.
var wide = with(typical, func(r *Rules) { r.Addresses = prefixes("10.1.0.0/24", "fd00:1::/64") })

// attacks are those of SECURITY, group by group.
var attacks = slices.Concat(macAttacks, arpAttacks, ip4Attacks, ip6Attacks, ndAttacks, dhcpAttacks, reachAttacks)

var macAttacks = []attempt{
	{"mac/neighbour", typical, eth(gatewayMAC, neighbourMAC, tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2))), "source-mac"},
	{"mac/bridge", typical, eth(broadcast, gatewayMAC, tARP, arp(1, gatewayMAC, guest4, broadcast, gateway4)), "source-mac"},
	{"mac/multicast", typical, eth(broadcast, "03:00:00:00:00:11", tARP, arp(1, guestMAC, guest4, broadcast, gateway4)), "source-mac"},
	{"mac/zero", typical, eth(broadcast, "00:00:00:00:00:00", tARP, arp(1, guestMAC, guest4, broadcast, gateway4)), "source-mac"},
	{"mac/without IPAM", l2, eth(gatewayMAC, neighbourMAC, tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2))), "source-mac"},
	{"mac/bridge group, neighbour's", typical, eth("01:80:c2:00:00:00", neighbourMAC, 0x27, zeros(60)), "source-mac"},
	{"l2/BPDU", typical, eth("01:80:c2:00:00:00", guestMAC, 0x26, []byte{0x42, 0x42, 3}, zeros(40)), "link-local-group"},
	{"l2/LACP", typical, eth("01:80:c2:00:00:02", guestMAC, 0x8809, zeros(60)), "link-local-group"},
	{"l2/EAPOL", typical, eth("01:80:c2:00:00:03", guestMAC, 0x888e, zeros(60)), "link-local-group"},
	{"l2/LLDP", typical, eth("01:80:c2:00:00:0e", guestMAC, 0x88cc, zeros(60)), "link-local-group"},
	{"l2/MVRP", typical, eth("01:80:c2:00:00:21", guestMAC, 0x88f5, zeros(60)), "link-local-group"},
	{"l2/IPv4 to a bridge group", typical, eth("01:80:c2:00:00:0f", guestMAC, tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2))), "link-local-group"},
	{"l2/PVST", typical, eth("01:00:0c:cc:cc:cd", guestMAC, 0x32, []byte{0xaa, 0xaa, 3}, zeros(50)), "ethertype"},
	{"l2/SNAP around IPv4", typical, out(0x30, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, ip4(neighbour4, gateway4, pTCP, tcp(1, 2))), "ethertype"},
	{"l2/802.1Q", typical, out(tVLAN, u16(7, tIPv4), ip4(neighbour4, gateway4, pTCP, tcp(1, 2))), "vlan-stacked"},
	{"l2/priority tag", typical, out(tVLAN, u16(0, tIPv4), ip4(guest4, gateway4, pTCP, tcp(1, 2))), "vlan-stacked"},
	{"l2/QinQ", typical, out(tQinQ, u16(7, tVLAN, 8, tIPv4), ip4(guest4, gateway4, pTCP, tcp(1, 2))), "vlan-stacked"},
	{"l2/802.1Q without IPAM", l2, out(tVLAN, u16(7, tIPv4), ip4(guest4, gateway4, pTCP, tcp(1, 2))), "vlan-stacked"},
	{"l2/unknown ethertype", typical, out(0x88b5, zeros(60)), "ethertype"},
	{"l2/MPLS", typical, out(0x8847, zeros(60)), "ethertype"},
	{"l2/PPPoE discovery", l2, out(0x8863, zeros(60)), "ethertype"},
	{"l2/runt", typical, out(tIPv4), "truncated-ip4"},
	{"l2/RARP", typical, out(tRARP, arp(3, guestMAC, guest4, guestMAC, guest4)), "ethertype"},
}

func arpFrame(op int, senderMAC, senderIP, targetMAC, targetIP string) []byte {
	return eth(broadcast, guestMAC, tARP, arp(op, senderMAC, senderIP, targetMAC, targetIP))
}

// patched is a frame with other bytes at an offset.
func patched(frame []byte, at int, b ...byte) []byte {
	frame = slices.Clone(frame)
	copy(frame[at:], b)
	return frame
}

var ownARP = arpFrame(1, guestMAC, guest4, broadcast, gateway4)

var arpAttacks = []attempt{
	{"arp/reply for the gateway", typical, arpFrame(2, guestMAC, gateway4, neighbourMAC, neighbour4), "arp-sender-ip"},
	{"arp/reply for a neighbour", typical, arpFrame(2, guestMAC, neighbour4, gatewayMAC, gateway4), "arp-sender-ip"},
	{"arp/announcement of the gateway", typical, arpFrame(1, guestMAC, gateway4, broadcast, gateway4), "arp-sender-ip"},
	{"arp/request as a neighbour", typical, arpFrame(1, guestMAC, neighbour4, broadcast, gateway4), "arp-sender-ip"},
	{"arp/poison the host", typical, out(tARP, arp(1, guestMAC, neighbour4, gatewayMAC, gateway4)), "arp-sender-ip"},
	{"arp/reply from nobody", typical, arpFrame(2, guestMAC, "0.0.0.0", guestMAC, guest4), "arp-sender-ip"},
	{"arp/gateway in an own prefix", wide, arpFrame(2, guestMAC, gateway4, neighbourMAC, neighbour4), "arp-sender-ip"},
	{"arp/sender MAC of a neighbour", typical, arpFrame(2, neighbourMAC, guest4, gatewayMAC, gateway4), "arp-sender-mac"},
	{"arp/sender MAC without IPAM", l2, arpFrame(2, neighbourMAC, guest4, gatewayMAC, gateway4), "arp-sender-mac"},
	{"arp/probe for a neighbour", typical, arpFrame(1, guestMAC, "0.0.0.0", broadcast, neighbour4), "arp-probe"},
	{"arp/probe for the gateway", typical, arpFrame(1, guestMAC, "0.0.0.0", broadcast, gateway4), "arp-probe"},
	{"arp/truncated", typical, ownARP[:41], "truncated-arp"},
	{"arp/hardware length", typical, patched(ownARP, 18, 7), "arp-format"},
	{"arp/protocol length", typical, patched(ownARP, 19, 16), "arp-format"},
	{"arp/hardware type", typical, patched(ownARP, 15, 6), "arp-format"},
	{"arp/protocol type", typical, patched(ownARP, 16, 0x86, 0xdd), "arp-format"},
	{"arp/reverse request", typical, patched(ownARP, 21, 3), "arp-operation"},
	{"arp/InARP", typical, patched(ownARP, 21, 8), "arp-operation"},
}

var ip4Attacks = []attempt{
	{"ip4/neighbour's source", typical, out(tIPv4, ip4(neighbour4, gateway4, pUDP, udp(1, 2))), "ip4-source"},
	{"ip4/gateway's source", typical, out(tIPv4, ip4(gateway4, neighbour4, pICMP, icmp(8))), "ip4-source"},
	{"ip4/foreign source", typical, out(tIPv4, ip4("8.8.8.8", gateway4, pTCP, tcp(1, 2))), "ip4-source"},
	{"ip4/loopback source", typical, out(tIPv4, ip4("127.0.0.1", gateway4, pTCP, tcp(1, 2))), "ip4-source"},
	{"ip4/gateway in an own prefix", wide, out(tIPv4, ip4(gateway4, neighbour4, pTCP, tcp(1, 2))), "ip4-source"},
	{"ip4/loose source route", typical, out(tIPv4, ip4f(guest4, gateway4, pUDP, 0, []byte{131, 7, 4, 10, 1, 0, 12, 0}, udp(1, 2))), "ip4-options"},
	{"ip4/strict source route", typical, out(tIPv4, ip4f(guest4, gateway4, pUDP, 0, []byte{137, 7, 4, 10, 1, 0, 12, 0}, udp(1, 2))), "ip4-options"},
	{"ip4/options to hide UDP", typical, out(tIPv4, ip4f(guest4, "255.255.255.255", pUDP, 0, []byte{1, 1, 1, 1}, udp(67, 68, zeros(240)))), "ip4-options"},
	{"ip4/IGMP with another option", typical, out(tIPv4, ip4f(guest4, "224.0.0.1", pIGMP, 0, []byte{1, 1, 1, 1}, []byte{0x16}, zeros(7))), "ip4-options"},
	{"ip4/from 0.0.0.0", typical, out(tIPv4, ip4("0.0.0.0", gateway4, pTCP, tcp(1, 2))), "ip4-unspecified"},
	{"ip4/from 0.0.0.0 to another port", typical, out(tIPv4, ip4("0.0.0.0", "255.255.255.255", pUDP, udp(68, 53))), "ip4-unspecified"},
	{"ip4/DHCP from 0.0.0.0 to a neighbour", typical, out(tIPv4, dhcp("0.0.0.0", neighbour4, guestMAC, "0.0.0.0")), "ip4-unspecified"},
	{"ip4/fragment from 0.0.0.0", typical, out(tIPv4, ip4f("0.0.0.0", "255.255.255.255", pUDP, 1, nil, zeros(300))), "ip4-unspecified"},
	{"ip4/fragment with half a header", typical, out(tIPv4, ip4f(guest4, gateway4, pTCP, 0x2000, nil, zeros(8))), "truncated-transport"},
	{"ip4/fragment of a neighbour", typical, out(tIPv4, ip4f(neighbour4, gateway4, pUDP, 1, nil, zeros(8))), "ip4-source"},
	{"ip4/version 6", typical, patched(out(tIPv4, ip4(guest4, gateway4, pUDP, udp(1, 2))), 14, 0x65), "ip4-header"},
	{"ip4/header of 16 bytes", typical, patched(out(tIPv4, ip4(guest4, gateway4, pUDP, udp(1, 2))), 14, 0x44), "ip4-header"},
	{"ip4/truncated header", typical, out(tIPv4, ip4(guest4, gateway4, pUDP))[:33], "truncated-ip4"},
	{"ip4/longer than the frame", typical, out(tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2)))[:50], "ip4-length"},
	{"ip4/length 0", typical, patched(out(tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2))), 16, 0, 0), "ip4-length"},
	{"ip4/no room for UDP", typical, out(tIPv4, ip4(guest4, gateway4, pUDP, zeros(7))), "truncated-transport"},
	{"ip4/ICMP redirect", typical, out(tIPv4, ip4(guest4, gateway4, pICMP, icmp(5))), "icmp4-type"},
	{"ip4/router advertisement", l2, out(tIPv4, ip4(guest4, gateway4, pICMP, icmp(9))), "icmp4-type"},
	{"ip4/IGMP query", typical, out(tIPv4, ip4f(guest4, "224.0.0.1", pIGMP, 0, routerAlert, []byte{0x11}, zeros(7))), "igmp-type"},
	{"ip4/IGMP query without IPAM", l2, out(tIPv4, ip4("0.0.0.1", "224.0.0.1", pIGMP, []byte{0x11}, zeros(7))), "igmp-type"},
	{"ip4/multicast router", typical, out(tIPv4, ip4(guest4, "224.0.0.106", pIGMP, []byte{0x30}, zeros(7))), "igmp-type"},
	{"ip4/IGMP in fragments", typical, out(tIPv4, ip4f(guest4, "224.0.0.1", pIGMP, 0x2000, nil, []byte{0x16}, zeros(7))), "ip4-fragment"},
	{"ip4/IGMP cut off", typical, out(tIPv4, ip4(guest4, "224.0.0.1", pIGMP, []byte{0x16}, zeros(6))), "truncated-transport"},
	{"ip4/PIM hello", typical, out(tIPv4, ip4(guest4, "224.0.0.13", 103, zeros(20))), "ip4-protocol"},
	{"ip4/OSPF", typical, out(tIPv4, ip4(guest4, "224.0.0.5", 89, zeros(40))), "ip4-protocol"},
	{"ip4/VRRP", typical, out(tIPv4, ip4(guest4, "224.0.0.18", 112, zeros(20))), "ip4-protocol"},
	{"ip4/fragment of PIM", typical, out(tIPv4, ip4f(guest4, "224.0.0.13", 103, 1, nil, zeros(20))), "ip4-protocol"},
}
