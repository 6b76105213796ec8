package frames

import "github.com/microvm-cni/microvm-cni/pkg/linkspec"

// VLANs are the rules of a trunk guest.
var VLANs = With(Typical, func(r *linkspec.Guard) { r.VLANs = []int{7, 4094} })

// Trunk is what such a guest sends. The kernel takes its tags off.
var Trunk = []Attempt{
	{"vlan/7", VLANs, Out(TypeVLAN, Uint16(7, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "passed"},
	{"vlan/7 with a priority", VLANs, Out(TypeVLAN, Uint16(0xe007, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "passed"},
	{"vlan/4094", VLANs, Out(TypeVLAN, Uint16(4094, TypeIPv6), IP6(Guest6, Gateway6, ProtoTCP, TCP(1, 2))), "passed"},
	{"vlan/none", VLANs, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "passed"},
	{"vlan/8", VLANs, Out(TypeVLAN, Uint16(8, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-not-allowed"},
	{"vlan/priority tag", VLANs, Out(TypeVLAN, Uint16(0, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-not-allowed"},
	{"vlan/802.1ad", VLANs, Out(tQinQ, Uint16(7, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-type"},
	{"vlan/QinQ", VLANs, Out(TypeVLAN, Uint16(7, TypeVLAN, 7, TypeIPv4), IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2))), "vlan-stacked"},
	{"vlan/spoofed packet", VLANs, Out(TypeVLAN, Uint16(7, TypeIPv4), IP4(Neighbour4, Gateway4, ProtoTCP, TCP(1, 2))), "ip4-source"},
	{"vlan/rogue router", VLANs, Eth(allNodesMAC, GuestMAC, TypeVLAN, Uint16(7, TypeIPv6), IP6(GuestLocal, allNodes, ProtoICMPv6, ra)), "icmp6-type"},
}

// ToHost has frames with what they need: the least hostAccess that lets them pass.
var ToHost = []struct {
	Name     string
	Frame    []byte
	Gateway  bool // passes with "gateway"
	Nobody   bool // passes with "none"
	Bridging bool // passes a host that does not forward
}{
	{"arp", OwnARP, true, true, true},
	{"neighbour solicitation", Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ND(135, Gateway6, LinkLayer(1, GuestMAC)))), true, true, true},
	{"MLD report", To6(GuestLocal, "ff02::16", pHopByHop, hopsAlert, mldReport), true, true, true},
	{"IGMP report", Eth("01:00:5e:00:00:fb", GuestMAC, TypeIPv4, IP4(Guest4, "224.0.0.251", pIGMP, []byte{0x16}, Zeros(7))), true, true, true},
	{"ping", Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoICMP, ICMP(8))), true, false, false},
	{"ping, later fragment", Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoICMP, 100, nil, Zeros(8))), true, false, false},
	{"ping, v6", Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoICMPv6, ICMP(128))), true, false, false},
	{"ping, v6, later fragment", Out(TypeIPv6, IP6(Guest6, Gateway6, pFragment, frag(ProtoICMPv6, 100, 0), Zeros(8))), true, false, false},
	{"DNS", Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoUDP, UDP(99, 53))), true, false, false},
	{"DNS over TCP", Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(99, 53))), true, false, false},
	{"DNS, v6", Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoUDP, UDP(99, 53))), true, false, false},
	{"DHCP", Eth(Broadcast, GuestMAC, TypeIPv4, dhcp("0.0.0.0", "255.255.255.255", GuestMAC, "0.0.0.0")), true, false, false},
	{"DHCPv6", To6(GuestLocal, "ff02::1:2", ProtoUDP, UDP(546, 547, []byte{1, 0, 0, 1})), true, false, false},
	{"service", Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(99, 22))), false, false, false},
	{"service, v6", Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoTCP, TCP(99, 22))), false, false, false},
	{"service, later fragment", Out(TypeIPv4, IP4f(Guest4, Gateway4, ProtoUDP, 100, nil, Zeros(8))), false, false, false},
	{"another address", Out(TypeIPv4, IP4(Guest4, "198.51.100.1", ProtoTCP, TCP(99, 22))), false, false, false},
	{"ping of another address", Out(TypeIPv4, IP4(Guest4, "198.51.100.1", ProtoICMP, ICMP(8))), false, false, false},
	{"another address, v6", Out(TypeIPv6, IP6(Guest6, "2001:db8:1::1", ProtoTCP, TCP(99, 22))), false, false, false},
	{"broadcast", Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, "10.1.0.255", ProtoUDP, UDP(99, 22))), false, false, false},
	{"mDNS", Eth("33:33:00:00:00:fb", GuestMAC, TypeIPv6, IP6(GuestLocal, "ff02::fb", ProtoUDP, UDP(5353, 5353))), false, false, false},
	{"the world", Out(TypeIPv4, IP4(Guest4, "8.8.8.8", ProtoTCP, TCP(99, 22))), true, true, false},
	{"the world, v6", Out(TypeIPv6, IP6(Guest6, "2001:db8:9::1", ProtoTCP, TCP(99, 22))), true, true, false},
	{"the world, by another router", Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, "8.8.8.8", ProtoTCP, TCP(99, 22))), true, true, true},
	{"the world, by another router, v6", Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(Guest6, "2001:db8:9::1", ProtoTCP, TCP(99, 22))), true, true, true},
	{"another address, by the port's own MAC", Eth(PortMAC, GuestMAC, TypeIPv4, IP4(Guest4, "198.51.100.1", ProtoTCP, TCP(99, 22))), false, false, false},
	{"another address, by everybody's MAC", Eth(Broadcast, GuestMAC, TypeIPv4, IP4(Guest4, "198.51.100.1", ProtoUDP, UDP(99, 53))), false, false, false},
	{"everybody, by the host's MAC", Out(TypeIPv4, IP4(Guest4, "255.255.255.255", ProtoUDP, UDP(99, 22))), false, false, false},
	{"a group, by the host's MAC", Out(TypeIPv4, IP4(Guest4, "224.0.0.1", ProtoUDP, UDP(99, 22))), false, false, false},
	{"a group, by the host's MAC, v6", Out(TypeIPv6, IP6(Guest6, allNodes, ProtoUDP, UDP(99, 22))), false, false, false},
	{"ping of the gateway's link-local", Out(TypeIPv6, IP6(GuestLocal, GatewayLocal, ProtoICMPv6, ICMP(128))), true, false, false},
	{"service, link-local", Out(TypeIPv6, IP6(GuestLocal, GatewayLocal, ProtoTCP, TCP(99, 22))), false, false, false},
	{"neighbour's link-local", Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(GuestLocal, NeighbourLocal, ProtoTCP, TCP(99, 22))), true, true, true},
	{"neighbour", Eth(NeighbourMAC, GuestMAC, TypeIPv4, IP4(Guest4, Neighbour4, ProtoTCP, TCP(99, 22))), true, true, true},
	{"neighbour, v6", Eth(NeighbourMAC, GuestMAC, TypeIPv6, IP6(Guest6, Neighbour6, ProtoTCP, TCP(99, 22))), true, true, true},
}

// LargeGSO are segments of 60 KB, which lie in pages of their own.
var LargeGSO = []Attempt{
	{"gso/own", Typical, Out(TypeIPv4, IP4(Guest4, Gateway4, ProtoTCP, TCP(1, 2), Zeros(60000))), "passed"},
	{"gso/spoofed", Typical, Out(TypeIPv4, IP4(Neighbour4, Gateway4, ProtoTCP, TCP(1, 2), Zeros(60000))), "ip4-source"},
	{"gso/own v6", Typical, Out(TypeIPv6, IP6(Guest6, Gateway6, ProtoTCP, TCP(1, 2), Zeros(60000))), "passed"},
	{"gso/spoofed v6", Typical, Out(TypeIPv6, IP6(Neighbour6, Gateway6, ProtoTCP, TCP(1, 2), Zeros(60000))), "ip6-source"},
}
