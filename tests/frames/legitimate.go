package frames

import (
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// manyBytes is a TCP segment that the network card is to split. A program that is
// not attached takes no more than a page.
const manyBytes = 3000

// Legitimate is what must pass.
var Legitimate = slices.Concat(legit4, legit6, LegitimateKnobs)

var legit4 = []Attempt{
	{"arp/request for the gateway", Typical, OwnARP, "passed"},
	{"arp/request for a neighbour", Typical, arpFrame(1, GuestMAC, Guest4, Broadcast, Neighbour4), "passed"},
	{"arp/reply", Typical, Out(TypeARP, ARP(2, GuestMAC, Guest4, GatewayMAC, Gateway4)), "passed"},
	{"arp/probe", Typical, arpFrame(1, GuestMAC, "0.0.0.0", Broadcast, Guest4), "passed"},
	{"arp/announcement", Typical, arpFrame(1, GuestMAC, Guest4, Broadcast, Guest4), "passed"},
	{"arp/announcement as a reply", Typical, arpFrame(2, GuestMAC, Guest4, Broadcast, Guest4), "passed"},
	{"arp/padded", Typical, Cat(OwnARP, Zeros(18)), "passed"},
	{"dhcp/discover", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, dhcp("0.0.0.0", "255.255.255.255", GuestMAC, "0.0.0.0")), "passed"},
	{"dhcp/renew", Typical, Out(TypeIPv4, dhcp(Guest4, Gateway4, GuestMAC, Guest4)), "passed"},
	{"dhcp/rebind", Typical, Eth(Broadcast, GuestMAC, TypeIPv4, dhcp(Guest4, "255.255.255.255", GuestMAC, Guest4)), "passed"},
	{"dhcp/discover without IPAM", L2, Eth(Broadcast, GuestMAC, TypeIPv4, dhcp("0.0.0.0", "255.255.255.255", GuestMAC, "0.0.0.0")), "passed"},
	{"ip4/ping", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(8))), "passed"},
	{"ip4/pong", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(0))), "passed"},
	{"ip4/unreachable", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(3, IP4(Gateway4, Guest4, ProtoUDP, UDP(1, 2))))), "passed"},
	{"ip4/time exceeded", Typical, Out(TypeIPv4, IP4(Guest4, "8.8.8.8", ProtoICMP, ICMP(11, IP4("8.8.8.8", Guest4, ProtoUDP, Zeros(8))))), "passed"},
	{"ip4/fragmentation needed without IPAM", L2, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(3, IP4(Gateway4, "8.8.8.8", ProtoUDP, UDP(1, 2))))), "passed"},
	{"ip4/TCP", Typical, Out(TypeIPv4, IP4(Guest4, "8.8.8.8", ProtoTCP, TCP(1, 443))), "passed"},
	{"ip4/TCP to a neighbour", Typical, Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoTCP, TCP(1, 2))), "passed"},
	{"ip4/UDP", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, UDP(1, 53, Zeros(30)))), "passed"},
	{"ip4/mDNS", Typical, Eth("01:00:5e:00:00:fb", GuestMAC, TypeIPv4, IP4(Guest4, "224.0.0.251", ProtoUDP, UDP(5353, 5353, Zeros(30)))), "passed"},
	{"ip4/don't fragment", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoTCP, 0x4000, nil, TCP(1, 2))), "passed"},
	{"ip4/first fragment", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoUDP, 0x2000, nil, UDP(1, 2, Zeros(1472)))), "passed"},
	{"ip4/later fragment", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoUDP, 185, nil, Zeros(600))), "passed"},
	{"ip4/fragments of ping", Typical, Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoICMP, 0x20b9, nil, Zeros(600))), "passed"},
	{"ip4/GSO", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2), Zeros(manyBytes))), "passed"},
	{"ip4/IGMPv3 report", Typical, Eth("01:00:5e:00:00:16", GuestMAC, TypeIPv4, IP4f(Guest4, "224.0.0.22", pIGMP, 0, routerAlert, []byte{0x22}, Zeros(15))), "passed"},
	{"ip4/IGMPv2 report", Typical, Eth("01:00:5e:00:00:fb", GuestMAC, TypeIPv4, IP4(Guest4, "224.0.0.251", pIGMP, []byte{0x16}, Zeros(7))), "passed"},
	{"ip4/IGMPv1 report", Typical, Eth("01:00:5e:00:00:fb", GuestMAC, TypeIPv4, IP4(Guest4, "224.0.0.251", pIGMP, []byte{0x12}, Zeros(7))), "passed"},
	{"ip4/IGMP leave", Typical, Eth("01:00:5e:00:00:02", GuestMAC, TypeIPv4, IP4f(Guest4, "224.0.0.2", pIGMP, 0, routerAlert, []byte{0x17}, Zeros(7))), "passed"},
	{"ip4/6in4", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 41, IP6("2001:db8::1", "2001:db8::2", pNone))), "passed"},
	{"ip4/GRE", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 47, Zeros(24))), "passed"},
	{"ip4/ESP", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 50, Zeros(24))), "passed"},
	{"ip4/AH", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", pAH, []byte{ProtoTCP, 4}, Zeros(22), TCP(1, 2))), "passed"},
	{"ip4/later fragment of GRE", Typical, Out(TypeIPv4, IP4f(Guest4, "192.0.2.1", 47, 100, nil, Zeros(24))), "passed"},
	{"ip4/SCTP", Typical, Out(TypeIPv4, IP4(Guest4, "192.0.2.1", 132, Zeros(24))), "passed"},
	{"ip4/any source without IPAM", L2, Out(TypeIPv4, IP4(Neighbour4, Gateway4, ProtoTCP, TCP(1, 2))), "passed"},
	{"arp/any sender without IPAM", L2, arpFrame(2, GuestMAC, Neighbour4, GatewayMAC, Gateway4), "passed"},
}

// hopsAlert is the header that all of MLD comes behind.
var hopsAlert = []byte{ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}

// Report is MLD of that type, which says that it has so many records.
func Report(typ, records int) []byte {
	return To6(GuestLocal, "ff02::16", pHopByHop, hopsAlert, patched(ICMP(typ, Zeros(16)), 6, Uint16(records)...))
}

// Report4 is that of IGMP.
func Report4(typ byte, records int) []byte {
	return Eth("01:00:5e:00:00:16", GuestMAC, TypeIPv4, IP4f(Guest4, "224.0.0.22", pIGMP, 0, routerAlert, patched(Cat([]byte{typ}, Zeros(15)), 6, Uint16(records)...)))
}

// ReportOf is MLD of one group, with so many sources.
func ReportOf(sources int) []byte {
	return To6(GuestLocal, "ff02::16", pHopByHop, hopsAlert, patched(ICMP(143, []byte{1, 0}, Uint16(sources), ip("ff05::1"), Zeros(16*sources)), 6, 0, 1))
}

// Report4Of is that of IGMP.
func Report4Of(sources int) []byte {
	return Eth("01:00:5e:00:00:16", GuestMAC, TypeIPv4, IP4f(Guest4, "224.0.0.22", pIGMP, 0, routerAlert,
		[]byte{0x22, 0, 0, 0, 0, 0, 0, 1, 1, 0}, Uint16(sources), ip("239.1.1.1"), Zeros(4*sources)))
}

// quote6 is what an ICMPv6 error says that it is about.
func quote6(src, dst string) []byte { return IP6(src, dst, ProtoUDP, UDP(1, 2)) }

var mldReport = ICMP(143, []byte{4, 0, 0, 0}, ip("ff02::1:ff00:11"))

var legit6 = []Attempt{
	{"nd/DAD", Typical, To6("::", "ff02::1:ff00:11", ProtoICMPv6, ND(135, Guest6)), "passed"},
	{"nd/DAD with nonce", Typical, To6("::", "ff02::1:ff00:11", ProtoICMPv6, ND(135, Guest6, []byte{14, 1}, Zeros(6))), "passed"},
	{"nd/DAD for link-local", Typical, To6("::", "ff02::1:ff00:11", ProtoICMPv6, ND(135, GuestLocal)), "passed"},
	{"nd/RS", Typical, To6(GuestLocal, "ff02::2", ProtoICMPv6, ICMP(133, LinkLayer(1, GuestMAC))), "passed"},
	{"nd/RS from ::", Typical, To6("::", "ff02::2", ProtoICMPv6, ICMP(133)), "passed"},
	{"nd/MLDv2 report", Typical, To6(GuestLocal, "ff02::16", pHopByHop, hopsAlert, mldReport), "passed"},
	{"nd/MLDv2 report from ::", Typical, To6("::", "ff02::16", pHopByHop, hopsAlert, mldReport), "passed"},
	{"nd/MLDv1 report", Typical, To6(GuestLocal, "ff02::1:ff00:11", pHopByHop, hopsAlert, ICMP(131, Zeros(16))), "passed"},
	{"nd/MLDv1 done", Typical, To6(GuestLocal, "ff02::2", pHopByHop, hopsAlert, ICMP(132, Zeros(16))), "passed"},
	{"nd/NS for the gateway", Typical, To6(Guest6, "ff02::1:ff00:1", ProtoICMPv6, ND(135, Gateway6, LinkLayer(1, GuestMAC))), "passed"},
	{"nd/NS for the gateway's link-local", Typical, Out(TypeIPv6, IP6(GuestLocal, GatewayLocal, ProtoICMPv6, ND(135, GatewayLocal, LinkLayer(1, GuestMAC)))), "passed"},
	{"nd/NA", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ND(136, Guest6, LinkLayer(2, GuestMAC)))), "passed"},
	{"nd/NA without an option", Typical, Out(TypeIPv6, IP6(GuestLocal, GatewayLocal, ProtoICMPv6, ND(136, GuestLocal))), "passed"},
	{"nd/NA unsolicited", Typical, To6(Guest6, allNodes, ProtoICMPv6, ND(136, Guest6, LinkLayer(2, GuestMAC))), "passed"},
	{"nd/any target without IPAM", L2, To6(Neighbour6, allNodes, ProtoICMPv6, ND(136, Neighbour6, LinkLayer(2, GuestMAC))), "passed"},
	{"dhcp/v6 solicit", Typical, To6(GuestLocal, "ff02::1:2", ProtoUDP, UDP(546, 547, []byte{1, 0, 0, 1}, Zeros(140))), "passed"},
	{"ip6/ping", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(128, Zeros(56)))), "passed"},
	{"ip6/pong", Typical, Out(TypeIPv6, IP6(GuestLocal, GatewayLocal, ProtoICMPv6, ICMP(129, Zeros(56)))), "passed"},
	{"ip6/unreachable", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(1, quote6(Gateway6, Guest6)))), "passed"},
	{"ip6/packet too big", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(2, quote6(Gateway6, Guest6)))), "passed"},
	{"ip6/time exceeded", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(3, quote6(Gateway6, Guest6)))), "passed"},
	{"ip6/parameter problem", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(4, quote6(Gateway6, Guest6)))), "passed"},
	{"ip6/unreachable link-local", Typical, Out(TypeIPv6, IP6(GuestLocal, GatewayLocal, ProtoICMPv6, ICMP(1, quote6(GatewayLocal, GuestLocal)))), "passed"},
	{"ip6/packet too big for a group", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(2, quote6(Gateway6, allNodes)))), "passed"},
	{"ip6/TCP", Typical, Out(TypeIPv6, IP6(Guest6, "2001:db8::1", ProtoTCP, TCP(1, 443))), "passed"},
	{"ip6/UDP", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoUDP, UDP(1, 53, Zeros(30)))), "passed"},
	{"ip6/GSO", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoTCP, TCP(1, 2), Zeros(manyBytes))), "passed"},
	{"ip6/first fragment", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(ProtoUDP, 0, 1), UDP(1, 2, Zeros(1232)))), "passed"},
	{"ip6/later fragment", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(ProtoUDP, 155, 0), Zeros(300))), "passed"},
	{"ip6/later fragment of AH", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(pAH, 154, 0), Zeros(200))), "passed"},
	{"ip6/later fragment of ping", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(ProtoICMPv6, 155, 0), Zeros(300))), "passed"},
	{"ip6/atomic fragment", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(ProtoTCP, 0, 0), TCP(1, 2))), "passed"},
	{"ip6/hop-by-hop and destination options", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pHopByHop, ext(pOptions), ext(ProtoTCP), TCP(1, 2))), "passed"},
	{"ip6/routing header that is used up", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pRouting, routing(2, 0), TCP(1, 2))), "passed"},
	{"ip6/AH", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pAH, []byte{ProtoTCP, 4}, Zeros(22), TCP(1, 2))), "passed"},
	{"ip6/ESP", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, 50, Zeros(30))), "passed"},
	{"ip6/no next header", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, pNone)), "passed"},
}

var twoMACs = With(Typical, func(r *linkspec.Guard) { r.MACs = append(r.MACs, MAC(NeighbourMAC)) })

// LegitimateKnobs pass because of a knob.
var LegitimateKnobs = []Attempt{
	{"knobs/extra MAC", twoMACs, Eth(Broadcast, NeighbourMAC, TypeARP, ARP(1, NeighbourMAC, Guest4, Broadcast, Gateway4)), "passed"},
	{"knobs/extra MAC's link-local", twoMACs, Out(TypeIPv6, IP6(NeighbourLocal, GatewayLocal, ProtoICMPv6, ICMP(128))), "passed"},
	{"knobs/own prefix", Wide, Out(TypeIPv4, IP4("10.1.0.200", Gateway4, ProtoTCP, TCP(1, 2))), "passed"},
	{"knobs/own v6 prefix", Wide, Out(TypeIPv6, IP6("fd00:1::200", Gateway6, ProtoTCP, TCP(1, 2))), "passed"},
	{"knobs/VRRP", With(Typical, func(r *linkspec.Guard) { r.VRRP = true }), Out(TypeIPv4, IP4(Guest4, "224.0.0.18", 112, Zeros(20))), "passed"},
	{"knobs/metadata", With(Typical, func(r *linkspec.Guard) { r.ReachMetadata = true }), Out(TypeIPv4, IP4(Guest4, "169.254.169.254", ProtoTCP, TCP(1, 80))), "passed"},
	{"knobs/v6 metadata", With(Typical, func(r *linkspec.Guard) { r.ReachMetadata = true }), Out(TypeIPv6, IP6(Guest6, "fd00:ec2::254", ProtoTCP, TCP(1, 80))), "passed"},
	{"knobs/isolated, gateway", Isolated, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "passed"},
	{"knobs/isolated, v6 gateway", Isolated, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoTCP, TCP(1, 2))), "passed"},
	{"knobs/isolated, the world", Isolated, Out(TypeIPv4, IP4(Guest4, "8.8.8.8", ProtoTCP, TCP(1, 2))), "passed"},
	{"knobs/time exceeded on the way through", Wide, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(11, IP4(Gateway4, "10.1.0.200", ProtoUDP, UDP(1, 2))))), "passed"},
	{"knobs/packet too big on the way through", Wide, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(2, quote6(Gateway6, "fd00:1::200")))), "passed"},
}
