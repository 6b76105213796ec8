package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

const (
	probe = "microvm-cni probe: "
)

// vlanFrame is an Ethernet frame with a UDP packet of ours in it.
type vlanFrame struct {
	src, dst net.HardwareAddr // src is the sender's own if none is given
	tag      int              // VLAN, 0 for none
	family   int              // 4 or 6
	text     string
}

func (f vlanFrame) String() string {
	return fmt.Sprintf("%s > %s, tag %d, IPv%d, %q", f.src, f.dst, f.tag, f.family, f.text)
}

// wire is the frame as a tap takes it.
func (f vlanFrame) wire() []byte {
	b := slices.Concat[[]byte](make([]byte, vnetHeader), f.dst, f.src)
	if f.tag != 0 {
		b = binary.BigEndian.AppendUint16(b, unix.ETH_P_8021Q)
		b = binary.BigEndian.AppendUint16(b, uint16(f.tag))
	}
	payload := append(make([]byte, 8), probe+f.text...) // UDP, to port 0, without a checksum
	if f.family == 6 {
		b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IPV6)
		b = append(b, 0x60, 0, 0, 0, 0, byte(len(payload)), unix.IPPROTO_UDP, 1)
		b = append(b, net.ParseIP("fd00:dead::1")...)
		return slices.Concat[[]byte](b, net.ParseIP("ff02::1"), payload)
	}
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_IP)
	header := []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0, 0, 1, unix.IPPROTO_UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 255}
	binary.BigEndian.PutUint16(header[10:], checksum(header)) // br_netfilter drops one that is wrong
	return slices.Concat(b, header, payload)
}

// parse reads a frame that is one of ours.
func parseFrame(b []byte) (f vlanFrame, ours bool) {
	_, text, ours := bytes.Cut(b, []byte(probe))
	if !ours || len(b) < vnetHeader+18 {
		return f, false
	}
	b = b[vnetHeader:]
	f = vlanFrame{dst: slices.Clone(b[:6]), src: slices.Clone(b[6:12]), text: string(text), family: 4}
	typ := binary.BigEndian.Uint16(b[12:])
	if typ == unix.ETH_P_8021Q {
		f.tag, typ = int(binary.BigEndian.Uint16(b[14:]))&0xfff, binary.BigEndian.Uint16(b[16:])
	}
	if typ == unix.ETH_P_IPV6 {
		f.family = 6
	}
	return f, true
}

// tapGuest plays the guest behind a tap.
type tapGuest struct {
	h    *host
	file *os.File
	mac  net.HardwareAddr
}

// guest opens a tap, and waits until the bridge has noticed.
func (h *host) guest(tap string) *tapGuest { return h.guestAt(h.link(tap), h.open(tap), tap) }

// guestAway is guest for a tap in the VMMs' namespace, whose port is another device.
func (h *host) guestAway(tap, port string) *tapGuest {
	h.t.Helper()
	for _, l := range h.inside() {
		if l.Name == tap {
			return h.guestAt(l, h.openIn(h.guests, tap), port)
		}
	}
	h.t.Fatalf("there is no %s", tap)
	return nil
}

func (h *host) guestAt(tap *link, file *os.File, port string) *tapGuest {
	h.t.Helper()
	mac, err := net.ParseMAC(tap.MAC)
	if err != nil {
		h.t.Fatal(err)
	}
	mac[0] = 2 // the tap's has fe there
	g := &tapGuest{h: h, file: file, mac: mac}
	if err := unix.SetNonblock(int(g.file.Fd()), true); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { g.file.Close() })
	if !eventually(func() bool { return strings.Contains(h.sh("bridge link show dev "+port), "state forwarding") }) {
		h.t.Fatalf("%s does not forward", port)
	}
	return g
}

// send gives the bridge a frame, which the kernel delivers before it returns.
func (g *tapGuest) send(f vlanFrame) {
	g.h.t.Helper()
	if f.src == nil {
		f.src = g.mac
	}
	if _, err := unix.Write(int(g.file.Fd()), f.wire()); err != nil {
		g.h.t.Fatalf("send %v: %v", f, err)
	}
}

// read returns the next frame that is there, nil for none.
func (g *tapGuest) read() []byte {
	g.h.t.Helper()
	b := make([]byte, 2048)
	n, err := unix.Read(int(g.file.Fd()), b)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		g.h.t.Fatalf("read from tap: %v", err)
	}
	return b[:n]
}

// hears fails the test unless these frames of ours, and no others, are there.
func (g *tapGuest) hears(want ...vlanFrame) {
	g.h.t.Helper()
	var got, wanted []string
	eventually(func() bool { // a device in between may leave them to ksoftirqd
		for b := g.read(); b != nil; b = g.read() {
			if f, ours := parseFrame(b); ours {
				got = append(got, f.String())
			}
		}
		return len(got) >= len(want)
	})
	for _, f := range want {
		wanted = append(wanted, f.String())
	}
	if !slices.Equal(got, wanted) {
		g.h.t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
}

// ask sends an ARP request or a neighbour solicitation.
func (g *tapGuest) ask(own, about string, tag int) {
	g.h.t.Helper()
	b := slices.Concat[[]byte](make([]byte, vnetHeader), broadcast, g.mac)
	if tag != 0 {
		b = binary.BigEndian.AppendUint16(b, unix.ETH_P_8021Q)
		b = binary.BigEndian.AppendUint16(b, uint16(tag))
	}
	from, to := net.ParseIP(own), net.ParseIP(about)
	if to.To4() != nil {
		b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
		b = slices.Concat[[]byte](b, g.mac, from.To4(), make([]byte, 6), to.To4())
	} else {
		message := slices.Concat[[]byte]([]byte{135, 0, 0, 0, 0, 0, 0, 0}, to, []byte{1, 1}, g.mac)
		group := net.ParseIP("ff02::1:ff00:0")
		copy(group[13:], to[13:])
		binary.BigEndian.PutUint16(message[2:], checksum(slices.Concat[[]byte](from, group,
			[]byte{0, 0, 0, byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6}, message)))
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255)
		b = slices.Concat[[]byte](b, from, group, message)
	}
	if _, err := unix.Write(int(g.file.Fd()), b); err != nil {
		g.h.t.Fatal(err)
	}
}

// answered tells whether the host's answer about that address is there: an ARP
// reply, or a neighbour advertisement.
func (g *tapGuest) answered(about string, tag int) bool {
	g.h.t.Helper()
	ip := net.ParseIP(about)
	for b := g.read(); b != nil; b = g.read() {
		b = b[vnetHeader:]
		seen := 0
		if binary.BigEndian.Uint16(b[12:]) == unix.ETH_P_8021Q {
			seen = int(binary.BigEndian.Uint16(b[14:])) & 0xfff
			b = b[4:]
		}
		if seen != tag || !bytes.Equal(b[:6], g.mac) && seen == 0 {
			continue
		}
		switch typ := binary.BigEndian.Uint16(b[12:]); {
		case typ == unix.ETH_P_ARP && b[21] == 2 && bytes.Equal(b[28:32], ip.To4()),
			typ == unix.ETH_P_IPV6 && b[20] == unix.IPPROTO_ICMPV6 && b[54] == 136 && bytes.Equal(b[62:78], ip):
			return true
		}
	}
	return false
}

// reaches fails the test unless the address answers, or does not.
func (g *tapGuest) reaches(t *testing.T, own, address string, tag int, want bool) {
	t.Helper()
	g.ask(own, address, tag)
	if !want {
		if g.answered(address, tag) {
			t.Errorf("%s answers %s, tag %d", address, own, tag)
		}
		return
	}
	if !eventually(func() bool { return g.answered(address, tag) }) {
		t.Errorf("%s does not answer %s, tag %d", address, own, tag)
	}
}
