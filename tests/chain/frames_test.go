package chain

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const etherTest = 0x88b5 // for local experiments (IEEE 802); nobody else's

// guest is what a VMM gives its guest: the tap, opened by name.
type guest struct {
	t   *testing.T
	fd  int
	mac net.HardwareAddr
	// heard are the frames that came up to now.
	heard [][]byte
}

// boot opens the tap of a VM.
func (h *host) boot(tap string, mac net.HardwareAddr) *guest {
	h.t.Helper()
	g := &guest{t: h.t, fd: -1, mac: mac}
	err := h.do(func() (err error) {
		if g.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(tap)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return unix.IoctlIfreq(g.fd, unix.TUNSETIFF, request)
	})
	if err != nil {
		h.t.Fatalf("open %s: %v", tap, err)
	}
	h.t.Cleanup(func() { _ = unix.Close(g.fd) })
	return g
}

// send puts a frame on the wire.
func (g *guest) send(to net.HardwareAddr, etherType uint16, payload []byte) {
	g.t.Helper()
	frame := append(append(append([]byte(nil), to...), g.mac...), byte(etherType>>8), byte(etherType))
	if frame = append(frame, payload...); len(frame) < 60 {
		frame = append(frame, make([]byte, 60-len(frame))...)
	}
	if _, err := unix.Write(g.fd, frame); err != nil {
		g.t.Fatalf("send: %v", err)
	}
}

// has reads all there is, and tells whether such a frame ever came.
func (g *guest) has(match func(frame []byte) bool) bool {
	g.t.Helper()
	b := make([]byte, 65536)
	for {
		n, err := unix.Read(g.fd, b)
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			g.t.Fatalf("receive: %v", err)
		}
		g.heard = append(g.heard, bytes.Clone(b[:n]))
	}
	for _, frame := range g.heard {
		if match(frame) {
			return true
		}
	}
	return false
}

// awaits tells whether such a frame comes, while ask is called again and again.
func (g *guest) awaits(match func(frame []byte) bool, ask func()) bool {
	g.t.Helper()
	for deadline := time.Now().Add(8 * time.Second); time.Now().Before(deadline); {
		ask()
		fds := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 100); err != nil && err != unix.EINTR {
			g.t.Fatalf("poll: %v", err)
		}
		if g.has(match) {
			return true
		}
	}
	return false
}

// asks tells whether somebody answers for an address: by ARP, or by neighbour
// discovery from the guest's address.
func (g *guest) asks(own, who netip.Addr) bool {
	g.t.Helper()
	if who.Is4() {
		return g.awaits(g.question(own, who))
	}
	return g.awaits(func(f []byte) bool { return isND(f, 136, who) }, func() { g.solicit(own, who) })
}

// question is an ARP request, and what an answer looks like.
func (g *guest) question(own, who netip.Addr) (answer func([]byte) bool, ask func()) {
	request := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, g.mac...)
	request = append(append(append(request, own.AsSlice()...), make([]byte, 6)...), who.AsSlice()...)
	answer = func(f []byte) bool {
		return len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 2 && bytes.Equal(f[28:32], who.AsSlice())
	}
	return answer, func() { g.send(broadcastMAC, 0x0806, request) }
}

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// isND tells whether the frame is a neighbour solicitation (135) or
// advertisement (136) about an address.
func isND(f []byte, typ byte, target netip.Addr) bool {
	return len(f) >= 78 && f[12] == 0x86 && f[13] == 0xdd && f[20] == 58 && f[54] == typ && bytes.Equal(f[62:78], target.AsSlice())
}

// solicit sends a neighbour solicitation (RFC 4861, 4.3).
func (g *guest) solicit(own, who netip.Addr) {
	g.t.Helper()
	w := who.As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: w[13], 14: w[14], 15: w[15]})
	message := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, w[:]...)
	message = append(append(message, 1, 1), g.mac...)
	pseudo := append(append(own.AsSlice(), group.AsSlice()...), 0, 0, 0, byte(len(message)), 0, 0, 0, 58)
	binary.BigEndian.PutUint16(message[2:], checksum(append(pseudo, message...)))
	packet := append([]byte{0x60, 0, 0, 0, 0, byte(len(message)), 58, 255}, own.AsSlice()...)
	packet = append(append(packet, group.AsSlice()...), message...)
	g.send(net.HardwareAddr{0x33, 0x33, 0xff, w[13], w[14], w[15]}, 0x86dd, packet)
}

// checksum is that of the internet protocols (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// mark is a frame that no station but the test sends, and what it looks like.
func mark(name string) (payload []byte, match func([]byte) bool) {
	payload = []byte("microvm-cni test: " + name)
	return payload, func(f []byte) bool {
		return len(f) > 14 && binary.BigEndian.Uint16(f[12:]) == etherTest && bytes.Contains(f, payload)
	}
}
