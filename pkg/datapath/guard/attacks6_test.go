package guard

// ns and na are frames of the guest: solicitations to everybody.
func to6(src, dst string, next int, payload ...[]byte) []byte {
	return eth(allNodesMAC, guestMAC, tIPv6, ip6(src, dst, next, payload...))
}

// badNA claims the gateway's address.
var badNA = nd(136, gateway6, lladdr(2, guestMAC))

var ra = icmp(134, zeros(8), []byte{3, 4, 64, 0xc0}, zeros(12), ip("fd00:bad::"))

var ip6Attacks = []attempt{
	{"ip6/neighbour's source", typical, out(tIPv6, ip6(neighbour6, gateway6, pUDP, udp(1, 2))), "ip6-source"},
	{"ip6/neighbour's link-local source", typical, out(tIPv6, ip6(nLocal, gwLocal, pICMPv6, icmp(128))), "ip6-source"},
	{"ip6/gateway's source", typical, out(tIPv6, ip6(gateway6, neighbour6, pTCP, tcp(1, 2))), "ip6-source"},
	{"ip6/gateway's link-local source", typical, to6(gwLocal, allNodes, pICMPv6, icmp(128)), "ip6-source"},
	{"ip6/gateway in an own prefix", wide, out(tIPv6, ip6(gateway6, neighbour6, pTCP, tcp(1, 2))), "ip6-source"},
	{"ip6/multicast source", typical, out(tIPv6, ip6("ff02::1", gateway6, pTCP, tcp(1, 2))), "ip6-source"},
	{"ip6/TCP from ::", typical, out(tIPv6, ip6("::", gateway6, pTCP, tcp(1, 2))), "ip6-unspecified"},
	{"ip6/fragment from ::", typical, out(tIPv6, ip6("::", gateway6, pFragment, frag(pUDP, 1, 0), zeros(8))), "ip6-unspecified"},
	{"ip6/echo from ::", l2, out(tIPv6, ip6("::", gateway6, pICMPv6, icmp(128))), "ip6-unspecified"},
	{"ip6/truncated header", typical, out(tIPv6, ip6(guest6, gateway6, pUDP))[:53], "truncated-ip6"},
	{"ip6/longer than the frame", typical, out(tIPv6, ip6(guest6, gateway6, pTCP, tcp(1, 2)))[:70], "ip6-length"},
	{"ip6/version 4", typical, patched(out(tIPv6, ip6(guest6, gateway6, pTCP, tcp(1, 2))), 14, 0x45), "ip6-header"},
	{"ip6/jumbogram", typical, patched(out(tIPv6, ip6(guest6, gateway6, pHopByHop, []byte{pTCP, 0, 0xc2, 4, 0, 1, 0, 0}, tcp(1, 2))), 18, 0, 0), "ip6-extension"},
	{"ip6/type 0 routing header", typical, out(tIPv6, ip6(guest6, gateway6, pRouting, routing(0, 1), tcp(1, 2))), "ip6-routing"},
	{"ip6/type 0 routing header, used up", typical, out(tIPv6, ip6(guest6, gateway6, pRouting, routing(0, 0), tcp(1, 2))), "ip6-routing"},
	{"ip6/segment routing past the rules", typical, out(tIPv6, ip6(guest6, gateway6, pRouting, routing(4, 1), tcp(1, 2))), "ip6-routing"},
	{"ip6/hop-by-hop in the wrong place", typical, out(tIPv6, ip6(guest6, gateway6, pOptions, ext(pHopByHop), ext(pTCP), tcp(1, 2))), "ip6-extension"},
	{"ip6/chain without end", typical, out(tIPv6, ip6(guest6, gateway6, pOptions, ext(pOptions), ext(pOptions), ext(pOptions), ext(pOptions), ext(pTCP), tcp(1, 2))), "ip6-extension"},
	{"ip6/extension header cut off", typical, out(tIPv6, ip6(guest6, gateway6, pOptions, []byte{pTCP, 9}, zeros(20))), "ip6-extension"},
	{"ip6/chain ends in nothing", typical, out(tIPv6, ip6(guest6, gateway6, pHopByHop, ext(pUDP), zeros(7))), "truncated-transport"},
	{"ip6/fragment without the header", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pOptions, 0, 1), []byte{pICMPv6, 4}, zeros(6))), "ip6-extension"},
	{"ip6/fragment with half a header", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pTCP, 0, 1), zeros(8))), "truncated-transport"},
	{"ip6/fragment of a fragment", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pFragment, 0, 0), frag(pTCP, 0, 0), tcp(1, 2))), "ip6-fragment"},
	{"ip6/unknown header", typical, out(tIPv6, ip6(guest6, gateway6, 253, zeros(40))), "ip6-protocol"},
	{"ip6/mobility header", typical, out(tIPv6, ip6(guest6, gateway6, 135, zeros(40))), "ip6-protocol"},
	{"ip6/PIM hello", typical, to6(guestLocal, "ff02::d", 103, zeros(20)), "ip6-protocol"},
	{"ip6/ICMPv4", typical, out(tIPv6, ip6(guest6, gateway6, pICMP, icmp(8))), "ip6-protocol"},
	{"ip6/later fragment of OSPF", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(89, 1, 0), zeros(8))), "ip6-protocol"},
}

var ndAttacks = []attempt{
	{"nd/NA for the gateway", typical, to6(guestLocal, allNodes, pICMPv6, badNA), "nd-target"},
	{"nd/NA for the gateway, unicast", typical, eth(neighbourMAC, guestMAC, tIPv6, ip6(guest6, neighbour6, pICMPv6, badNA)), "nd-target"},
	{"nd/NA behind hop-by-hop", typical, to6(guestLocal, allNodes, pHopByHop, ext(pICMPv6), badNA), "nd-target"},
	{"nd/NA behind destination options", typical, to6(guestLocal, allNodes, pOptions, ext(pICMPv6), badNA), "nd-target"},
	{"nd/NA behind AH", typical, to6(guestLocal, allNodes, pAH, []byte{pICMPv6, 4}, zeros(22), badNA), "nd-target"},
	{"nd/NA in an atomic fragment", typical, to6(guestLocal, allNodes, pFragment, frag(pICMPv6, 0, 0), badNA), "nd-fragment"},
	{"nd/own NA in an atomic fragment", typical, to6(guestLocal, allNodes, pFragment, frag(pICMPv6, 0, 0), nd(136, guest6)), "nd-fragment"},
	{"nd/NA for a neighbour", typical, to6(guest6, allNodes, pICMPv6, nd(136, neighbour6)), "nd-target"},
	{"nd/NA for a neighbour's link-local", typical, to6(guestLocal, allNodes, pICMPv6, nd(136, nLocal)), "nd-target"},
	{"nd/NA for the gateway in an own prefix", wide, to6(guestLocal, allNodes, pICMPv6, badNA), "nd-target"},
	{"nd/NA with a neighbour's MAC", typical, to6(guest6, allNodes, pICMPv6, nd(136, guest6, lladdr(2, neighbourMAC))), "nd-option"},
	{"nd/NA without IPAM, another's MAC", l2, to6(guest6, allNodes, pICMPv6, nd(136, guest6, lladdr(2, gatewayMAC))), "nd-option"},
	{"nd/NA from ::", typical, to6("::", allNodes, pICMPv6, nd(136, guest6)), "ip6-unspecified"},
	{"nd/NS that poisons", typical, to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6, lladdr(1, neighbourMAC))), "nd-option"},
	{"nd/NS as the gateway", typical, to6(gateway6, "ff02::1:ff00:12", pICMPv6, nd(135, neighbour6, lladdr(1, guestMAC))), "ip6-source"},
	{"nd/NS with option of length 0", typical, to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6, []byte{14, 0}, zeros(6))), "nd-option"},
	{"nd/NS with option past the end", typical, to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6, []byte{14, 3}, zeros(6))), "nd-option"},
	{"nd/NS with half an option", typical, to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6, lladdr(1, guestMAC)[:6])), "nd-option"},
	{"nd/NS with unknown option", typical, to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6, []byte{4, 1}, zeros(6))), "nd-option"},
	{"nd/NS cut off", typical, to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6)[:23]), "truncated-transport"},
	{"nd/NS from afar", typical, patched(to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6)), 21, 64), "nd-hop-limit"},
	{"nd/DAD denial for a neighbour", typical, to6("::", "ff02::1:ff00:12", pICMPv6, nd(135, neighbour6)), "nd-target"},
	{"nd/DAD denial for the gateway", typical, to6("::", "ff02::1:ff00:1", pICMPv6, nd(135, gateway6)), "nd-target"},
	{"nd/DAD denial for a link-local", typical, to6("::", "ff02::1:ff00:12", pICMPv6, nd(135, nLocal)), "nd-target"},
	{"nd/RS with another's MAC", typical, to6(guestLocal, "ff02::2", pICMPv6, icmp(133, lladdr(1, neighbourMAC))), "nd-option"},
	{"nd/RA", typical, to6(guestLocal, allNodes, pICMPv6, ra), "icmp6-type"},
	{"nd/RA without IPAM", l2, to6(guestLocal, allNodes, pICMPv6, ra), "icmp6-type"},
	{"nd/RA behind hop-by-hop", typical, to6(guestLocal, allNodes, pHopByHop, ext(pICMPv6), ra), "icmp6-type"},
	{"nd/RA behind destination options", typical, to6(guestLocal, allNodes, pOptions, ext(pICMPv6), ra), "icmp6-type"},
	{"nd/RA behind two headers", l2, to6(guestLocal, allNodes, pHopByHop, ext(pOptions), ext(pICMPv6), ra), "icmp6-type"},
	{"nd/RA in an atomic fragment", typical, to6(guestLocal, allNodes, pFragment, frag(pICMPv6, 0, 0), ra), "icmp6-type"},
	{"nd/RA split over fragments", typical, to6(guestLocal, allNodes, pFragment, frag(pOptions, 0, 1), []byte{pICMPv6, 1}, zeros(6)), "ip6-extension"},
	{"nd/RA in a first fragment", typical, to6(guestLocal, allNodes, pFragment, frag(pICMPv6, 0, 1), ra), "icmp6-type"},
	{"nd/redirect", typical, to6(guestLocal, allNodes, pICMPv6, icmp(137, ip(gateway6), ip(neighbour6))), "icmp6-type"},
	{"nd/MLD query", typical, to6(guestLocal, allNodes, pHopByHop, []byte{pICMPv6, 0, 5, 2, 0, 0, 1, 0}, icmp(130, zeros(20))), "icmp6-type"},
	{"nd/MLD query without IPAM", l2, to6(guestLocal, allNodes, pICMPv6, icmp(130, zeros(20))), "icmp6-type"},
	{"nd/multicast router advertisement", typical, to6(guestLocal, "ff02::6a", pICMPv6, icmp(151)), "icmp6-type"},
	{"nd/router renumbering", typical, to6(guestLocal, allNodes, pICMPv6, icmp(138)), "icmp6-type"},
	{"nd/inverse advertisement", typical, to6(guestLocal, allNodes, pICMPv6, icmp(142)), "icmp6-type"},
}

var dhcpAttacks = []attempt{
	{"dhcp/rogue server", typical, eth(broadcast, guestMAC, tIPv4, ip4(guest4, "255.255.255.255", pUDP, udp(67, 68, bootp(2, neighbourMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-server"},
	{"dhcp/rogue server, unicast", typical, eth(neighbourMAC, guestMAC, tIPv4, ip4(guest4, neighbour4, pUDP, udp(67, 68, bootp(2, neighbourMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-server"},
	{"dhcp/rogue server, another port", typical, eth(broadcast, guestMAC, tIPv4, ip4(guest4, "255.255.255.255", pUDP, udp(99, 68, bootp(2, neighbourMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-server"},
	{"dhcp/rogue server without IPAM", l2, eth(broadcast, guestMAC, tIPv4, ip4(guest4, "255.255.255.255", pUDP, udp(67, 68, zeros(240)))), "dhcp4-server"},
	{"dhcp/rogue server in a fragment", typical, eth(broadcast, guestMAC, tIPv4, ip4f(guest4, "255.255.255.255", pUDP, 0x2000, nil, udp(67, 68, zeros(240)))), "dhcp4-server"},
	{"dhcp/starvation", typical, eth(broadcast, guestMAC, tIPv4, dhcp("0.0.0.0", "255.255.255.255", "02:de:ad:00:00:01", "0.0.0.0")), "dhcp4-hardware"},
	{"dhcp/starvation without IPAM", l2, eth(broadcast, guestMAC, tIPv4, dhcp("0.0.0.0", "255.255.255.255", "02:de:ad:00:00:01", "0.0.0.0")), "dhcp4-hardware"},
	{"dhcp/starvation by relay", typical, eth(broadcast, guestMAC, tIPv4, ip4(guest4, gateway4, pUDP, udp(68, 67, bootp(1, guestMAC, "0.0.0.0", guest4)))), "dhcp4-client"},
	{"dhcp/chaddr in a later fragment", typical, eth(broadcast, guestMAC, tIPv4, ip4f(guest4, gateway4, pUDP, 0x2000, nil, udp(68, 67, zeros(8)))), "dhcp4-client"},
	{"dhcp/from another port", typical, eth(broadcast, guestMAC, tIPv4, ip4(guest4, gateway4, pUDP, udp(99, 67, bootp(1, guestMAC, "0.0.0.0", "0.0.0.0")))), "dhcp4-client"},
	{"dhcp/too short", typical, eth(broadcast, guestMAC, tIPv4, ip4(guest4, gateway4, pUDP, udp(68, 67, zeros(100)))), "dhcp4-client"},
	{"dhcp/release of a neighbour's lease", typical, out(tIPv4, dhcp(guest4, gateway4, guestMAC, neighbour4)), "dhcp4-ciaddr"},
	{"dhcp/rogue v6 server", typical, to6(guestLocal, nLocal, pUDP, udp(547, 546, []byte{2, 0, 0, 1})), "dhcp6-server"},
	{"dhcp/rogue v6 server, another port", l2, to6(guestLocal, nLocal, pUDP, udp(99, 546, []byte{7, 0, 0, 1})), "dhcp6-server"},
	{"dhcp/v6 relay", typical, to6(guestLocal, "ff02::1:2", pUDP, udp(546, 547, []byte{12, 0, 0, 1})), "dhcp6-client"},
	{"dhcp/v6 reply to a server", typical, to6(guestLocal, "ff02::1:2", pUDP, udp(546, 547, []byte{7, 0, 0, 1})), "dhcp6-client"},
	{"dhcp/v6 in a fragment", typical, to6(guestLocal, "ff02::1:2", pFragment, frag(pUDP, 0, 1), udp(546, 547, []byte{1, 0, 0, 1})), "dhcp6-client"},
}

var reachAttacks = []attempt{
	{"reach/neighbour through the gateway", isolated, out(tIPv4, ip4(guest4, neighbour4, pTCP, tcp(1, 2))), "isolated"},
	{"reach/v6 neighbour through the gateway", isolated, out(tIPv6, ip6(guest6, neighbour6, pTCP, tcp(1, 2))), "isolated"},
	{"reach/subnet broadcast", isolated, out(tIPv4, ip4(guest4, "10.1.0.255", pUDP, udp(1, 2))), "isolated"},
	{"reach/later fragment to a neighbour", isolated, out(tIPv4, ip4f(guest4, neighbour4, pUDP, 4, nil, zeros(8))), "isolated"},
	{"reach/metadata", typical, out(tIPv4, ip4(guest4, "169.254.169.254", pTCP, tcp(1, 80))), "metadata-service"},
	{"reach/metadata without IPAM", l2, out(tIPv4, ip4(guest4, "169.254.169.254", pTCP, tcp(1, 80))), "metadata-service"},
	{"reach/v6 metadata", typical, out(tIPv6, ip6(guest6, "fd00:ec2::254", pTCP, tcp(1, 80))), "metadata-service"},
}
