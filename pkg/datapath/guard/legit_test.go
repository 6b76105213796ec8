package guard

import "slices"

// manyBytes is a TCP segment that the network card is to split. A program that is
// not attached takes no more than a page.
const manyBytes = 3000

var legitimate = slices.Concat(legit4, legit6, legitKnobs)

var legit4 = []attempt{
	{"arp/request for the gateway", typical, ownARP, "passed"},
	{"arp/request for a neighbour", typical, arpFrame(1, guestMAC, guest4, broadcast, neighbour4), "passed"},
	{"arp/reply", typical, out(tARP, arp(2, guestMAC, guest4, gatewayMAC, gateway4)), "passed"},
	{"arp/probe", typical, arpFrame(1, guestMAC, "0.0.0.0", broadcast, guest4), "passed"},
	{"arp/announcement", typical, arpFrame(1, guestMAC, guest4, broadcast, guest4), "passed"},
	{"arp/announcement as a reply", typical, arpFrame(2, guestMAC, guest4, broadcast, guest4), "passed"},
	{"arp/padded", typical, cat(ownARP, zeros(18)), "passed"},
	{"dhcp/discover", typical, eth(broadcast, guestMAC, tIPv4, dhcp("0.0.0.0", "255.255.255.255", guestMAC, "0.0.0.0")), "passed"},
	{"dhcp/renew", typical, out(tIPv4, dhcp(guest4, gateway4, guestMAC, guest4)), "passed"},
	{"dhcp/rebind", typical, eth(broadcast, guestMAC, tIPv4, dhcp(guest4, "255.255.255.255", guestMAC, guest4)), "passed"},
	{"dhcp/discover without IPAM", l2, eth(broadcast, guestMAC, tIPv4, dhcp("0.0.0.0", "255.255.255.255", guestMAC, "0.0.0.0")), "passed"},
	{"ip4/ping", typical, out(tIPv4, ip4(guest4, gateway4, pICMP, icmp(8))), "passed"},
	{"ip4/pong", typical, out(tIPv4, ip4(guest4, gateway4, pICMP, icmp(0))), "passed"},
	{"ip4/TCP", typical, out(tIPv4, ip4(guest4, "8.8.8.8", pTCP, tcp(1, 443))), "passed"},
	{"ip4/TCP to a neighbour", typical, eth(neighbourMAC, guestMAC, tIPv4, ip4(guest4, neighbour4, pTCP, tcp(1, 2))), "passed"},
	{"ip4/UDP", typical, out(tIPv4, ip4(guest4, gateway4, pUDP, udp(1, 53, zeros(30)))), "passed"},
	{"ip4/mDNS", typical, eth("01:00:5e:00:00:fb", guestMAC, tIPv4, ip4(guest4, "224.0.0.251", pUDP, udp(5353, 5353, zeros(30)))), "passed"},
	{"ip4/don't fragment", typical, out(tIPv4, ip4f(guest4, gateway4, pTCP, 0x4000, nil, tcp(1, 2))), "passed"},
	{"ip4/first fragment", typical, out(tIPv4, ip4f(guest4, gateway4, pUDP, 0x2000, nil, udp(1, 2, zeros(1472)))), "passed"},
	{"ip4/later fragment", typical, out(tIPv4, ip4f(guest4, gateway4, pUDP, 185, nil, zeros(600))), "passed"},
	{"ip4/fragments of ping", typical, out(tIPv4, ip4f(guest4, gateway4, pICMP, 0x20b9, nil, zeros(600))), "passed"},
	{"ip4/GSO", typical, out(tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2), zeros(manyBytes))), "passed"},
	{"ip4/IGMPv3 report", typical, eth("01:00:5e:00:00:16", guestMAC, tIPv4, ip4f(guest4, "224.0.0.22", pIGMP, 0, routerAlert, []byte{0x22}, zeros(15))), "passed"},
	{"ip4/IGMPv2 report", typical, eth("01:00:5e:00:00:fb", guestMAC, tIPv4, ip4(guest4, "224.0.0.251", pIGMP, []byte{0x16}, zeros(7))), "passed"},
	{"ip4/IGMPv1 report", typical, eth("01:00:5e:00:00:fb", guestMAC, tIPv4, ip4(guest4, "224.0.0.251", pIGMP, []byte{0x12}, zeros(7))), "passed"},
	{"ip4/IGMP leave", typical, eth("01:00:5e:00:00:02", guestMAC, tIPv4, ip4f(guest4, "224.0.0.2", pIGMP, 0, routerAlert, []byte{0x17}, zeros(7))), "passed"},
	{"ip4/6in4", typical, out(tIPv4, ip4(guest4, "192.0.2.1", 41, ip6("2001:db8::1", "2001:db8::2", pNone))), "passed"},
	{"ip4/GRE", typical, out(tIPv4, ip4(guest4, "192.0.2.1", 47, zeros(24))), "passed"},
	{"ip4/ESP", typical, out(tIPv4, ip4(guest4, "192.0.2.1", 50, zeros(24))), "passed"},
	{"ip4/later fragment of GRE", typical, out(tIPv4, ip4f(guest4, "192.0.2.1", 47, 100, nil, zeros(24))), "passed"},
	{"ip4/SCTP", typical, out(tIPv4, ip4(guest4, "192.0.2.1", 132, zeros(24))), "passed"},
	{"ip4/any source without IPAM", l2, out(tIPv4, ip4(neighbour4, gateway4, pTCP, tcp(1, 2))), "passed"},
	{"arp/any sender without IPAM", l2, arpFrame(2, guestMAC, neighbour4, gatewayMAC, gateway4), "passed"},
}

var mldReport = icmp(143, []byte{4, 0, 0, 0}, ip("ff02::1:ff00:11"))

var legit6 = []attempt{
	{"nd/DAD", typical, to6("::", "ff02::1:ff00:11", pICMPv6, nd(135, guest6)), "passed"},
	{"nd/DAD with nonce", typical, to6("::", "ff02::1:ff00:11", pICMPv6, nd(135, guest6, []byte{14, 1}, zeros(6))), "passed"},
	{"nd/DAD for link-local", typical, to6("::", "ff02::1:ff00:11", pICMPv6, nd(135, guestLocal)), "passed"},
	{"nd/RS", typical, to6(guestLocal, "ff02::2", pICMPv6, icmp(133, lladdr(1, guestMAC))), "passed"},
	{"nd/RS from ::", typical, to6("::", "ff02::2", pICMPv6, icmp(133)), "passed"},
	{"nd/MLDv2 report", typical, to6(guestLocal, "ff02::16", pHopByHop, []byte{pICMPv6, 0, 5, 2, 0, 0, 1, 0}, mldReport), "passed"},
	{"nd/MLDv2 report from ::", typical, to6("::", "ff02::16", pHopByHop, []byte{pICMPv6, 0, 5, 2, 0, 0, 1, 0}, mldReport), "passed"},
	{"nd/MLDv1 report", typical, to6(guestLocal, "ff02::1:ff00:11", pICMPv6, icmp(131, zeros(16))), "passed"},
	{"nd/MLDv1 done", typical, to6(guestLocal, "ff02::2", pICMPv6, icmp(132, zeros(16))), "passed"},
	{"nd/NS for the gateway", typical, to6(guest6, "ff02::1:ff00:1", pICMPv6, nd(135, gateway6, lladdr(1, guestMAC))), "passed"},
	{"nd/NS for the gateway's link-local", typical, out(tIPv6, ip6(guestLocal, gwLocal, pICMPv6, nd(135, gwLocal, lladdr(1, guestMAC)))), "passed"},
	{"nd/NA", typical, out(tIPv6, ip6(guest6, gateway6, pICMPv6, nd(136, guest6, lladdr(2, guestMAC)))), "passed"},
	{"nd/NA without an option", typical, out(tIPv6, ip6(guestLocal, gwLocal, pICMPv6, nd(136, guestLocal))), "passed"},
	{"nd/NA unsolicited", typical, to6(guest6, allNodes, pICMPv6, nd(136, guest6, lladdr(2, guestMAC))), "passed"},
	{"nd/any target without IPAM", l2, to6(neighbour6, allNodes, pICMPv6, nd(136, neighbour6, lladdr(2, guestMAC))), "passed"},
	{"dhcp/v6 solicit", typical, to6(guestLocal, "ff02::1:2", pUDP, udp(546, 547, []byte{1, 0, 0, 1}, zeros(40))), "passed"},
	{"ip6/ping", typical, out(tIPv6, ip6(guest6, gateway6, pICMPv6, icmp(128, zeros(56)))), "passed"},
	{"ip6/pong", typical, out(tIPv6, ip6(guestLocal, gwLocal, pICMPv6, icmp(129, zeros(56)))), "passed"},
	{"ip6/unreachable", typical, out(tIPv6, ip6(guest6, gateway6, pICMPv6, icmp(1, zeros(56)))), "passed"},
	{"ip6/packet too big", typical, out(tIPv6, ip6(guest6, gateway6, pICMPv6, icmp(2, zeros(56)))), "passed"},
	{"ip6/time exceeded", typical, out(tIPv6, ip6(guest6, gateway6, pICMPv6, icmp(3, zeros(56)))), "passed"},
	{"ip6/parameter problem", typical, out(tIPv6, ip6(guest6, gateway6, pICMPv6, icmp(4, zeros(56)))), "passed"},
	{"ip6/TCP", typical, out(tIPv6, ip6(guest6, "2001:db8::1", pTCP, tcp(1, 443))), "passed"},
	{"ip6/UDP", typical, out(tIPv6, ip6(guest6, gateway6, pUDP, udp(1, 53, zeros(30)))), "passed"},
	{"ip6/GSO", typical, out(tIPv6, ip6(guest6, gateway6, pTCP, tcp(1, 2), zeros(manyBytes))), "passed"},
	{"ip6/first fragment", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pUDP, 0, 1), udp(1, 2, zeros(1232)))), "passed"},
	{"ip6/later fragment", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pUDP, 155, 0), zeros(300))), "passed"},
	{"ip6/later fragment of ping", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pICMPv6, 155, 0), zeros(300))), "passed"},
	{"ip6/atomic fragment", typical, out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pTCP, 0, 0), tcp(1, 2))), "passed"},
	{"ip6/hop-by-hop and destination options", typical, out(tIPv6, ip6(guest6, gateway6, pHopByHop, ext(pOptions), ext(pTCP), tcp(1, 2))), "passed"},
	{"ip6/routing header that is used up", typical, out(tIPv6, ip6(guest6, gateway6, pRouting, routing(2, 0), tcp(1, 2))), "passed"},
	{"ip6/AH", typical, out(tIPv6, ip6(guest6, gateway6, pAH, []byte{pTCP, 4}, zeros(22), tcp(1, 2))), "passed"},
	{"ip6/ESP", typical, out(tIPv6, ip6(guest6, gateway6, 50, zeros(30))), "passed"},
	{"ip6/no next header", typical, out(tIPv6, ip6(guest6, gateway6, pNone)), "passed"},
}

var twoMACs = with(typical, func(r *Rules) { r.MACs = append(r.MACs, mac(neighbourMAC)) })

var legitKnobs = []attempt{
	{"knobs/extra MAC", twoMACs, eth(broadcast, neighbourMAC, tARP, arp(1, neighbourMAC, guest4, broadcast, gateway4)), "passed"},
	{"knobs/extra MAC's link-local", twoMACs, out(tIPv6, ip6(nLocal, gwLocal, pICMPv6, icmp(128))), "passed"},
	{"knobs/own prefix", wide, out(tIPv4, ip4("10.1.0.200", gateway4, pTCP, tcp(1, 2))), "passed"},
	{"knobs/own v6 prefix", wide, out(tIPv6, ip6("fd00:1::200", gateway6, pTCP, tcp(1, 2))), "passed"},
	{"knobs/VRRP", with(typical, func(r *Rules) { r.VRRP = true }), out(tIPv4, ip4(guest4, "224.0.0.18", 112, zeros(20))), "passed"},
	{"knobs/metadata", with(typical, func(r *Rules) { r.Metadata = true }), out(tIPv4, ip4(guest4, "169.254.169.254", pTCP, tcp(1, 80))), "passed"},
	{"knobs/v6 metadata", with(typical, func(r *Rules) { r.Metadata = true }), out(tIPv6, ip6(guest6, "fd00:ec2::254", pTCP, tcp(1, 80))), "passed"},
	{"knobs/isolated, gateway", isolated, out(tIPv4, ip4(guest4, gateway4, pTCP, tcp(1, 2))), "passed"},
	{"knobs/isolated, v6 gateway", isolated, out(tIPv6, ip6(guest6, gateway6, pTCP, tcp(1, 2))), "passed"},
	{"knobs/isolated, the world", isolated, out(tIPv4, ip4(guest4, "8.8.8.8", pTCP, tcp(1, 2))), "passed"},
}
