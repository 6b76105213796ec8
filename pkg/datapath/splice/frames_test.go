package splice_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// frame is what a guest writes.
type frame struct {
	name        string
	destination []byte
	tags        []byte // between the addresses and the type
	ipv6        bool
	payload     int    // of TCP
	segment     int    // to cut the payload into; 0 leaves it
	raw         []byte // in place of a TCP packet: from the type on
}

var (
	toOther   = []byte{2, 0, 0, 0, 0, 7}
	broadcast = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	vlan7     = []byte{0x81, 0, 0x20, 7}
	qinq      = []byte{0x88, 0xa8, 0, 9, 0x81, 0, 0, 7}
	arp       = append([]byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 38)...)
)

var frames = []frame{
	{name: "checksum to be computed", destination: toOther, payload: 100},
	{name: "full", destination: toOther, payload: 1460},
	{name: "segments", destination: toOther, payload: 60000, segment: 1448},
	{name: "IPv6", destination: toOther, payload: 100, ipv6: true},
	{name: "IPv6 segments", destination: toOther, payload: 60000, segment: 1428, ipv6: true},
	{name: "tagged", destination: toOther, payload: 100, tags: vlan7},
	{name: "tagged segments", destination: toOther, payload: 30000, segment: 1448, tags: vlan7},
	{name: "twice tagged", destination: toOther, payload: 100, tags: qinq},
	{name: "priority tagged", destination: toOther, payload: 100, tags: []byte{0x81, 0, 0xe0, 0}},
	{name: "tagged ARP", destination: broadcast, raw: arp, tags: vlan7},
	{name: "ARP", destination: broadcast, raw: arp},
	{name: "multicast", destination: []byte{1, 0, 0x5e, 0, 0, 251}, payload: 100},
	{name: "IPv6 multicast", destination: []byte{0x33, 0x33, 0, 0, 0, 1}, payload: 100, ipv6: true},
	{name: "LLDP", destination: []byte{1, 0x80, 0xc2, 0, 0, 0xe}, raw: append([]byte{0x88, 0xcc}, make([]byte, 46)...)},
	{name: "unknown type", destination: toOther, raw: append([]byte{0x88, 0xb5}, make([]byte, 1500)...)},
	{name: "802.3 length", destination: toOther, raw: append([]byte{0, 46, 0x42, 0x42, 3}, make([]byte, 43)...)},
	{name: "nothing but addresses", destination: toOther, raw: []byte{0x88, 0xb5}},
}

// bytes is the frame with its virtio header, sent by the station with that number.
func (f frame) bytes(from byte) []byte {
	b := slices.Concat(make([]byte, vnetHeader), f.destination, []byte{2, 0, 0, 0, 0, from}, f.tags)
	if f.raw != nil {
		return append(b, f.raw...)
	}
	ip := len(b) + 2
	b = append(b, f.packet()...)
	tcp := len(b) - 20 - f.payload
	b[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
	binary.NativeEndian.PutUint16(b[6:], uint16(tcp-vnetHeader))
	binary.NativeEndian.PutUint16(b[8:], 16)
	if f.segment > 0 {
		b[1] = unix.VIRTIO_NET_HDR_GSO_TCPV4
		if f.ipv6 {
			b[1] = unix.VIRTIO_NET_HDR_GSO_TCPV6
		}
		binary.NativeEndian.PutUint16(b[2:], uint16(tcp+20-vnetHeader))
		binary.NativeEndian.PutUint16(b[4:], uint16(f.segment))
	}
	// What is left to do: the sum of the pseudo header is in place.
	binary.BigEndian.PutUint16(b[tcp+16:], sum(pseudoHeader(b[ip:tcp], 20+f.payload)))
	return b
}

// packet is the type and a TCP packet without its checksum.
func (f frame) packet() []byte {
	var b []byte
	if f.ipv6 {
		b = []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64}
		binary.BigEndian.PutUint16(b[6:], uint16(20+f.payload))
		b = append(b, bytes.Repeat([]byte{0xfd, 1}, 8)...)
		b = append(b, bytes.Repeat([]byte{0xfd, 2}, 8)...)
	} else {
		b = []byte{8, 0, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
		binary.BigEndian.PutUint16(b[4:], uint16(40+f.payload))
		binary.BigEndian.PutUint16(b[12:], ^sum(b[2:22]))
	}
	b = append(b, 0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0)
	for i := range f.payload {
		b = append(b, byte(i))
	}
	return b
}

func pseudoHeader(ip []byte, length int) []byte {
	addresses := ip[8:40]
	if ip[0]>>4 == 4 {
		addresses = ip[12:20]
	}
	return binary.BigEndian.AppendUint32(slices.Clone(addresses), uint32(length)+unix.IPPROTO_TCP<<16)
}

// sum is the Internet's, not yet inverted.
func sum(b []byte) uint16 {
	var s uint32
	for i, v := range b {
		s += uint32(v) << (8 * (1 - i%2))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// eachWay runs the test with and without a shortcut, in both directions.
func eachWay(t *testing.T, test func(t *testing.T, from, to *tap)) {
	for _, shortcut := range []bool{false, true} {
		t.Run(fmt.Sprintf("shortcut=%t", shortcut), func(t *testing.T) {
			r := newRig(t, shortcut)
			test(t, r.guest, r.peer)
			test(t, r.peer, r.guest)
		})
	}
}

// What is read is what was written: to the last byte, with what is left to do.
func TestFrames(t *testing.T) {
	eachWay(t, func(t *testing.T, from, to *tap) {
		for i, f := range frames {
			sent := f.bytes(byte(10 + i))
			from.send(sent)
			got := to.receive(patience)
			if len(f.tags) > 0 && len(got) > vnetHeader {
				// The length of the headers is a hint, into which no tap counts the tag.
				copy(got[2:4], sent[2:4])
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%s, from %s to %s: %d bytes %x\nwant %d bytes %x", f.name, from.name, to.name,
					len(got), got[:min(len(got), 90)], len(sent), sent[:min(len(sent), 90)])
			}
		}
	})
}

// A reader that can do nothing by itself gets segments that fit, with checksums.
func TestSegments(t *testing.T) {
	eachWay(t, func(t *testing.T, from, to *tap) {
		to.offload(0)
		defer to.offload(offloads)
		for i, f := range frames {
			if f.raw != nil {
				continue
			}
			from.send(f.bytes(byte(40 + i)))
			for received := 0; received < f.payload; {
				got := to.receive(patience)
				if got == nil {
					t.Errorf("%s, from %s to %s: %d bytes, want %d", f.name, from.name, to.name, received, f.payload)
					break
				}
				ip := got[vnetHeader+14+len(f.tags):]
				header := map[bool]int{false: 20, true: 40}[f.ipv6]
				tcp := ip[header:]
				if len(ip) > 1500 || got[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 || got[1] != 0 {
					t.Errorf("%s, from %s to %s: a packet of %d bytes, virtio header %x", f.name, from.name, to.name, len(ip), got[:vnetHeader])
				}
				if s := sum(append(pseudoHeader(ip[:header], len(tcp)), tcp...)); s != 0xffff {
					t.Errorf("%s, from %s to %s: bad checksum: sum %04x", f.name, from.name, to.name, s)
				}
				received += len(tcp) - 20
			}
		}
	})
}

// A bridge keeps pause frames to itself; up to there they come.
func TestPauseFrame(t *testing.T) {
	r := newRig(t, false)
	socket := listen(t, "port")
	pause := frame{destination: []byte{1, 0x80, 0xc2, 0, 0, 1}, raw: append([]byte{0x88, 0x08, 0, 1}, make([]byte, 44)...)}.bytes(3)
	r.guest.send(pause)
	for start := time.Now(); ; {
		got := receive(t, socket, patience)
		if bytes.Equal(got, pause[vnetHeader:]) {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("port received %x, want %x", got, pause[vnetHeader:])
		}
	}
}
