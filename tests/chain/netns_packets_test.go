package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

const vnetHeader = 10 // bytes before each frame of a tap (struct virtio_net_hdr)

// vmmSide is a guest's NIC: the tap, as its VMM has it.
type vmmSide struct {
	t   *testing.T
	fd  *os.File
	mac net.HardwareAddr
}

// plugIn opens the tap of a guest where it is.
func (h *host) plugIn(v vm, r *types100.Result) *vmmSide {
	h.t.Helper()
	name, netns := v.tapOf(r), h.Path()
	for _, in := range r.Interfaces {
		if in.Name == name && in.Sandbox == v.netns {
			netns = v.netns
		}
	}
	w := &vmmSide{t: h.t, fd: h.openIn(netns, name)}
	for _, in := range r.Interfaces {
		if in.Sandbox == v.id {
			w.mac, _ = net.ParseMAC(in.Mac)
		}
	}
	h.t.Cleanup(func() { _ = w.fd.Close() })
	return w
}

// frame is an Ethernet frame.
func frame(to, from net.HardwareAddr, ethertype uint16, payload []byte) []byte {
	f := append(append([]byte{}, to...), from...)
	return append(binary.BigEndian.AppendUint16(f, ethertype), payload...)
}

func (w *vmmSide) send(f []byte) {
	w.t.Helper()
	if _, err := w.fd.Write(append(make([]byte, vnetHeader), f...)); err != nil {
		w.t.Fatalf("guest %s sends: %v", w.mac, err)
	}
}

// receive returns the first frame that is wanted, nil if none comes in time.
func (w *vmmSide) receive(patience time.Duration, wanted func(f []byte) bool) []byte {
	w.t.Helper()
	if err := w.fd.SetReadDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	for {
		n, err := w.fd.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			w.t.Fatalf("guest %s receives: %v", w.mac, err)
		}
		if n > vnetHeader && wanted(b[vnetHeader:n]) {
			return b[vnetHeader:n]
		}
	}
}

// asks makes the guest ask who has the gateway's address, and tells who answers. It asks again
// and again: the bridge takes a moment to see that a NIC was plugged in.
func (w *vmmSide) asks(own string) net.HardwareAddr {
	const target = "10.1.0.1"
	w.t.Helper()
	request := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	request = append(append(request, w.mac...), netip.MustParseAddr(own).AsSlice()...)
	request = append(append(request, make([]byte, 6)...), netip.MustParseAddr(target).AsSlice()...)
	for range 100 {
		w.send(frame(net.HardwareAddr{255, 255, 255, 255, 255, 255}, w.mac, 0x0806, request))
		reply := w.receive(100*time.Millisecond, func(f []byte) bool {
			return len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 2 && bytes.Equal(f[28:32], netip.MustParseAddr(target).AsSlice())
		})
		if reply != nil {
			return net.HardwareAddr(reply[22:28])
		}
	}
	return nil
}

// udp is an IPv4 packet to the port of all packets.
func udp(from, to string) []byte {
	p := []byte{0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0}
	p = append(append(p, netip.MustParseAddr(from).AsSlice()...), netip.MustParseAddr(to).AsSlice()...)
	var sum uint32
	for i := 0; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	p = binary.BigEndian.AppendUint16(p, port)
	p = binary.BigEndian.AppendUint16(p, port)
	return append(p, 0, 9, 0, 0, 'x')
}

// udp6 is udp in IPv6, without a checksum that anybody would accept.
func udp6(from, to string) []byte {
	p := []byte{0x60, 0, 0, 0, 0, 9, 17, 64}
	p = append(p, netip.MustParseAddr(from).AsSlice()...)
	p = append(p, netip.MustParseAddr(to).AsSlice()...)
	return append(p, 0x20, 0, 0x20, 0, 0, 9, 0, 0, 'x')
}

// Guests in both placements, and the gateway, hear one another as on one wire.
func TestNetnsPackets(t *testing.T) {
	for _, maker := range []string{"microvm-tap", "tap"} { // ours, and upstream's
		for _, isolated := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s isolated %v", maker, isolated), func(t *testing.T) {
				h := newHost(t)
				more := conf{"portIsolation": isolated, "ipMasq": true, "ipam": dual["ipam"]}
				n, here := h.away(more), h.pair(more)
				if maker == "tap" {
					n.plugins[0] = conf{"type": "tap"}
				}
				far, near := h.vm("far"), h.vm("near")
				far.ifname = "nic0"
				a, b := h.plugIn(far, n.add(far)), h.plugIn(near, here.add(near))
				gw := a.asks("10.1.0.2")
				if gw.String() != h.link("br0").MAC {
					t.Errorf("the gateway's address is %s to the guest, want %s", gw, h.link("br0").MAC)
				}
				if b.asks("10.1.0.3") == nil {
					t.Error("the gateway does not answer the guest on the host")
				}
				for _, way := range []struct {
					from, to *vmmSide
					own, far string // the last figures of the addresses
				}{{a, b, "2", "3"}, {b, a, "3", "2"}} {
					for ethertype, payload := range map[uint16][]byte{
						0x0800: udp("10.1.0."+way.own, "10.1.0."+way.far), 0x86dd: udp6("fd00:1::"+way.own, "fd00:1::"+way.far),
					} {
						f := frame(way.to.mac, way.from.mac, ethertype, payload)
						way.from.send(f)
						way.from.asks("10.1.0." + way.own) // what was sent before has arrived by then
						got := way.to.receive(map[bool]time.Duration{true: time.Millisecond, false: 5 * time.Second}[isolated],
							func(got []byte) bool { return bytes.Equal(got, f) })
						if (got == nil) != isolated {
							t.Errorf("%x from %s to %s: arrived %v", ethertype, way.from.mac, way.to.mac, got != nil)
						}
					}
				}
				h.station("outside", "203.0.113.2/24")
				h.sh("ip address add 203.0.113.1/24 dev outside")
				count := h.watch("outside", "203.0.113.1", "203.0.113.2")
				a.send(frame(gw, a.mac, 0x0800, udp("10.1.0.2", "203.0.113.2")))
				if !eventually(func() bool { return count() == "1" }) {
					t.Errorf("%s masqueraded packets arrived, want 1", count())
				}
				if maker == "microvm-tap" { // upstream's CHECK wants the guest's addresses on the tap
					n.holds(far)
				}
				n.remove(far)
				here.remove(near)
				h.empty()
			})
		}
	}
}

// Plugins that look for CNI_IFNAME in CNI_NETNS find it there, or a second name.
func TestNetnsPeers(t *testing.T) {
	for _, name := range []string{"", "fctap"} {
		h := newQuietHost(t)
		n := h.network("lab", newest, awayTap, dual.with(unguarded), conf{"type": "portmap", "capabilities": conf{"portMappings": true}}, conf{"type": "tuning", "mac": "02:00:00:00:00:55", "promisc": true})
		v := h.vm("vm1")
		v.capabilities = web(8080)
		if name != "" {
			v.args = "TAP_NAME=" + name
			n.plugins = n.plugins[:3] // tuning wants CNI_IFNAME itself
		}
		n.add(v)
		h.mentions(true, "10.1.0.2:80", "[fd00:1::2]:80")
		n.holds(v)
		n.remove(v)
		h.mentions(false, "10.1.0.2:80")
		h.clearRules()
	}
}
