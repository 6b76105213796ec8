package guard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// The stations of the tests' network.
const (
	guestMAC, guest4, guest6, guestLocal         = "02:00:00:00:00:11", "10.1.0.11", "fd00:1::11", "fe80::ff:fe00:11"
	neighbourMAC, neighbour4, neighbour6, nLocal = "02:00:00:00:00:12", "10.1.0.12", "fd00:1::12", "fe80::ff:fe00:12"
	gatewayMAC, gateway4, gateway6, gwLocal      = "02:00:00:00:00:01", "10.1.0.1", "fd00:1::1", "fe80::ff:fe00:1"
	broadcast                                    = "ff:ff:ff:ff:ff:ff"
	allNodes, allNodesMAC                        = "ff02::1", "33:33:00:00:00:01"
)

const (
	tARP, tRARP, tIPv4, tIPv6, tVLAN, tQinQ = 0x0806, 0x8035, 0x0800, 0x86dd, 0x8100, 0x88a8

	pHopByHop, pICMP, pIGMP, pTCP, pUDP, pRouting, pFragment = 0, 1, 2, 6, 17, 43, 44
	pAH, pICMPv6, pNone, pOptions                            = 51, 58, 59, 60
)

// typical are the rules of a guest with one address of each family.
var typical = Rules{
	MACs:      macs(guestMAC),
	Addresses: prefixes(guest4+"/32", guest6+"/128"),
	Gateways:  []netip.Addr{netip.MustParseAddr(gateway4), netip.MustParseAddr(gateway6)},
}.Canonical()

// with is rules with a change.
func with(r Rules, change func(*Rules)) Rules {
	change(&r)
	return r.Canonical()
}

func macs(all ...string) []net.HardwareAddr {
	var list []net.HardwareAddr
	for _, m := range all {
		list = append(list, mac(m))
	}
	return list
}

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

func prefixes(all ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range all {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func ip(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func u16(v ...int) []byte {
	var b []byte
	for _, n := range v {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return b
}

func zeros(n int) []byte { return make([]byte, n) }

func eth(dst, src string, typ int, payload ...[]byte) []byte {
	return cat(mac(dst), mac(src), u16(typ), cat(payload...))
}

// out is a frame of the guest to the gateway.
func out(typ int, payload ...[]byte) []byte { return eth(gatewayMAC, guestMAC, typ, payload...) }

func arp(op int, senderMAC, senderIP, targetMAC, targetIP string) []byte {
	return cat(u16(1, tIPv4, 0x0604, op), mac(senderMAC), ip(senderIP), mac(targetMAC), ip(targetIP))
}

func ip4(src, dst string, protocol int, payload ...[]byte) []byte {
	return ip4f(src, dst, protocol, 0, nil, payload...)
}

// ip4f is IPv4 with a fragment field and options.
func ip4f(src, dst string, protocol, fragment int, options []byte, payload ...[]byte) []byte {
	p := cat(payload...)
	header := 20 + len(options)
	return cat([]byte{byte(0x40 + header/4), 0}, u16(header+len(p), 1, fragment), []byte{64, byte(protocol), 0, 0}, ip(src), ip(dst), options, p)
}

func ip6(src, dst string, next int, payload ...[]byte) []byte {
	p := cat(payload...)
	return cat([]byte{0x60, 0, 0, 0}, u16(len(p)), []byte{byte(next), 255}, ip(src), ip(dst), p)
}

func udp(from, to int, payload ...[]byte) []byte {
	p := cat(payload...)
	return cat(u16(from, to, 8+len(p), 0), p)
}

func tcp(from, to int) []byte { return cat(u16(from, to), zeros(8), []byte{0x50, 2}, zeros(6)) }

func icmp(typ int, body ...[]byte) []byte {
	return cat([]byte{byte(typ), 0, 0, 0}, zeros(4), cat(body...))
}

// nd is a neighbour solicitation or advertisement with options.
func nd(typ int, target string, options ...[]byte) []byte {
	return icmp(typ, ip(target), cat(options...))
}

// lladdr is a link-layer address option.
func lladdr(kind int, m string) []byte { return cat([]byte{byte(kind), 1}, mac(m)) }

// ext is an extension header of 8 bytes, with a PadN in it.
func ext(next int) []byte { return []byte{byte(next), 0, 1, 4, 0, 0, 0, 0} }

// frag is a fragment header: offset in units of 8 bytes.
func frag(next, offset, more int) []byte {
	return cat([]byte{byte(next), 0}, u16(offset<<3|more), zeros(4))
}

func routing(kind, left int) []byte {
	return cat([]byte{pTCP, 2, byte(kind), byte(left)}, zeros(4), ip(neighbour6))
}

// dhcp is a request of a client, from the Ethernet header's payload on.
func dhcp(src, dst, chaddr, ciaddr string) []byte {
	return ip4(src, dst, pUDP, udp(68, 67, bootp(1, chaddr, ciaddr, "0.0.0.0")))
}

func bootp(op int, chaddr, ciaddr, giaddr string) []byte {
	return cat([]byte{byte(op), 1, 6, 0}, zeros(8), ip(ciaddr), zeros(8), ip(giaddr), mac(chaddr), zeros(10+192), []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255})
}

// routerAlert is the one IPv4 option that passes.
var routerAlert = []byte{0x94, 4, 0, 0}
