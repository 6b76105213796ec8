package guard

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket/layers"
)

// oracle judges frames by the text of docs/security.md. It knows nothing of the
// program: a packet library takes the frames apart, and what it refuses to parse
// is not allowed.
type oracle struct {
	r        Rules
	local    []netip.Addr
	segments bool // the frame is to be cut into several

	eth  layers.Ethernet
	arp  layers.ARP
	ip   layers.IPv4
	icmp layers.ICMPv6
	ns   layers.ICMPv6NeighborSolicitation
	na   layers.ICMPv6NeighborAdvertisement
	rs   layers.ICMPv6RouterSolicitation
	cut  bool
}

// SetTruncated is called by the library for a packet that is not there in full.
func (o *oracle) SetTruncated() { o.cut = true }

func newOracle(r Rules) *oracle { return &oracle{r: r, local: r.LinkLocals()} }

func allows(r Rules, frame []byte) bool { return newOracle(r).allows(frame) }

func (o *oracle) allows(frame []byte) bool {
	o.cut = false
	if o.eth.DecodeFromBytes(frame, o) != nil || !o.ownMAC(o.eth.SrcMAC) {
		return false
	}
	if bytes.HasPrefix(o.eth.DstMAC, []byte{1, 0x80, 0xc2, 0, 0}) {
		return false
	}
	switch o.eth.EthernetType {
	case layers.EthernetTypeARP:
		return o.arpAllowed(frame[14:])
	case layers.EthernetTypeIPv4:
		return o.ip4Allowed(frame[14:])
	case layers.EthernetTypeIPv6:
		return o.ip6Allowed(frame[14:])
	}
	return false
}

func (o *oracle) ownMAC(m []byte) bool {
	return slices.ContainsFunc(o.r.MACs, func(own net.HardwareAddr) bool { return bytes.Equal(own, m) })
}

func (o *oracle) own(b []byte) bool {
	a, _ := netip.AddrFromSlice(b)
	if slices.Contains(o.r.Gateways, a) {
		return false
	}
	return o.r.L2Only || slices.Contains(o.local, a) ||
		slices.ContainsFunc(o.r.Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}

func none(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }

// snooped tells whether a bridge looks for IGMP and MLD in the frame.
func (o *oracle) snooped() bool {
	return o.eth.DstMAC[0]&1 != 0 && !bytes.Equal(o.eth.DstMAC, layers.EthernetBroadcast)
}

func (o *oracle) arpAllowed(b []byte) bool {
	a := &o.arp
	if a.DecodeFromBytes(b, o) != nil || o.cut {
		return false
	}
	if a.AddrType != layers.LinkTypeEthernet || a.Protocol != layers.EthernetTypeIPv4 || a.HwAddressSize != 6 || a.ProtAddressSize != 4 {
		return false
	}
	if !bytes.Equal(a.SourceHwAddress, o.eth.SrcMAC) {
		return false
	}
	switch a.Operation {
	case layers.ARPRequest:
		if none(a.SourceProtAddress) {
			return o.own(a.DstProtAddress)
		}
		return o.own(a.SourceProtAddress)
	case layers.ARPReply:
		return !none(a.SourceProtAddress) && o.own(a.SourceProtAddress)
	}
	return false
}

// reachable tells whether the guest may send to the address.
func (o *oracle) reachable(dst []byte) bool {
	a, _ := netip.AddrFromSlice(dst)
	if !o.r.ReachMetadata && (a == netip.MustParseAddr("169.254.169.254") || a == netip.MustParseAddr("fd00:ec2::254")) {
		return false
	}
	return !o.r.Isolate || slices.Contains(o.r.Gateways, a) ||
		!slices.ContainsFunc(o.r.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ordinary are protocols that nothing but a station speaks.
func (o *oracle) ordinary(protocol byte) bool {
	return bytes.IndexByte([]byte{4, 33, 41, 47, 50, 108, 115, 132, 136, 137}, protocol) >= 0 || protocol == 112 && o.r.VRRP
}

func (o *oracle) ip4Allowed(b []byte) bool {
	ip := &o.ip
	if len(b) < 20 || binary.BigEndian.Uint16(b[2:]) == 0 || ip.DecodeFromBytes(b, o) != nil || o.cut || ip.Version != 4 {
		return false
	}
	whole := ip.FragOffset == 0 && ip.Flags&layers.IPv4MoreFragments == 0
	if ip.IHL != 5 {
		if ip.Protocol != layers.IPProtocolIGMP || ip.IHL != 6 || !bytes.Equal(b[20:24], []byte{148, 4, 0, 0}) {
			return false
		}
	}
	discover := ip.Protocol == layers.IPProtocolUDP && whole && ip.DstIP.Equal(broadcastIP) && len(ip.Payload) >= 4 && binary.BigEndian.Uint16(ip.Payload[2:]) == 67
	if ip.DstIP.IsLoopback() {
		return false
	}
	if none(ip.SrcIP) && !discover || !none(ip.SrcIP) && !o.own(ip.SrcIP) || !o.reachable(ip.DstIP) {
		return false
	}
	if !whole && o.segments {
		return false
	}
	p := ip.Payload
	switch ip.Protocol {
	case layers.IPProtocolIGMP:
		return whole && len(p) >= 8 && o.snooped() && bytes.IndexByte([]byte{0x12, 0x16, 0x17, 0x22}, p[0]) >= 0
	case layers.IPProtocolTCP:
		return ip.FragOffset > 0 || len(p) >= 20
	case layers.IPProtocolICMPv4:
		return ip.FragOffset > 0 || len(p) >= 8 && o.icmp4Allowed(p)
	case layers.IPProtocolUDP:
		return ip.FragOffset > 0 || len(p) >= 8 && o.udp4Allowed(p, whole)
	}
	return ip.Protocol == layers.IPProtocolAH || o.ordinary(byte(ip.Protocol))
}

func (o *oracle) icmp4Allowed(p []byte) bool {
	switch p[0] {
	case layers.ICMPv4TypeRedirect, layers.ICMPv4TypeRouterAdvertisement:
		return false
	case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeSourceQuench, layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem:
		return len(p) >= 28 && o.own(p[24:28])
	}
	return true
}

var broadcastIP = []byte{255, 255, 255, 255}

func (o *oracle) udp4Allowed(p []byte, whole bool) bool {
	from, to := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	if from == 67 || to == 68 {
		return false
	}
	if to != 67 {
		return true
	}
	if from != 68 || !whole || len(p) < 8+236 || o.segments {
		return false
	}
	d := p[8:]
	op, typ, length, client, relay, hardware := d[0], d[1], d[2], d[12:16], d[24:28], d[28:34]
	return op == 1 && typ == 1 && length == 6 && none(relay) && bytes.Equal(hardware, o.eth.SrcMAC) && (none(client) || o.own(client))
}
