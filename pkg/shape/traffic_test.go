package shape_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/shape"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

const (
	frameLength = 1000
	frames      = 100
)

// Frames sent all at once through a bridge of two taps: a limited direction lets
// the burst and a part of the queue through, any other lets all through.
func TestEffectOnFrames(t *testing.T) {
	slow := shape.Limit{Rate: 1e5, Burst: 8 * 10 * frameLength, Queue: 8 * 20 * frameLength}
	to, from := shape.Limits{ToGuest: slow}, shape.Limits{FromGuest: slow}
	shaped := shape.Limits{ToGuest: slow, FromGuest: slow, ShapedSubnets: subnets("192.0.2.0/24", "2001:db8::/32")}
	unshaped := shape.Limits{ToGuest: slow, FromGuest: slow, UnshapedSubnets: shaped.ShapedSubnets}

	inside, outside := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.7")
	inside6, outside6 := netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db9::7")
	tests := []struct {
		name           string
		l              shape.Limits
		peer           netip.Addr
		limTo, limFrom bool
	}{
		{"none", shape.Limits{}, inside, false, false},
		{"to the guest", to, inside, true, false},
		{"from the guest", from, inside, false, true},
		{"shaped subnet", shaped, inside, true, true},
		{"shaped subnet, IPv6", shaped, inside6, true, true},
		{"beside the shaped subnet", shaped, outside, false, false},
		{"beside the shaped subnet, IPv6", shaped, outside6, false, false},
		{"unshaped subnet", unshaped, inside, false, false},
		{"unshaped subnet, IPv6", unshaped, inside6, false, false},
		{"beside the unshaped subnet", unshaped, outside, true, true},
		{"beside the unshaped subnet, IPv6", unshaped, outside6, true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sandbox.NewHost(t).Enter()
			run(t, "ip link add br0 type bridge mcast_snooping 0")
			t.Cleanup(func() { run(t, "ip link del br0") })
			guest, peer := newTap(t, "guest"), newTap(t, "peer")
			run(t, "ip link set br0 up")
			p := shape.Port{Index: index(t, "guest"), ToGuest: newDevice(t, "ifb-to"), FromGuest: newDevice(t, "ifb-from")}
			apply(t, p, test.l)

			us := netip.MustParseAddr("203.0.113.1")
			if test.peer.Is6() {
				us = netip.MustParseAddr("2001:dba::1")
			}
			expect(t, "from the guest", send(t, guest, peer, frame(us, test.peer)), test.limFrom)
			expect(t, "to the guest", send(t, peer, guest, frame(test.peer, us)), test.limTo)
			for name, tag := range map[string]uint16{"priority": 0, "VLAN 7": 7} {
				refill(t, p, test.l)
				expect(t, "from the guest, tag of "+name, send(t, guest, peer, tagged(frame(us, test.peer), tag)), test.limFrom)
				expect(t, "to the guest, tag of "+name, send(t, peer, guest, tagged(frame(test.peer, us), tag)), test.limTo)
			}
		})
	}
}

// refill puts full buckets in the place of those that are empty.
func refill(t *testing.T, p shape.Port, l shape.Limits) {
	t.Helper()
	if err := shape.Remove(p); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ifb-to", "ifb-from"} {
		run(t, "ip link del "+name)
		run(t, "ip link add "+name+" type ifb")
		run(t, "ip link set "+name+" up")
	}
	p.ToGuest, p.FromGuest = index(t, "ifb-to"), index(t, "ifb-from")
	apply(t, p, l)
}

// tagged puts an 802.1Q tag into a frame, which keeps its length.
func tagged(f []byte, id uint16) []byte {
	t := make([]byte, 0, len(f))
	t = binary.BigEndian.AppendUint16(append(t, f[:12]...), unix.ETH_P_8021Q)
	t = append(binary.BigEndian.AppendUint16(t, id), f[12:len(f)-4]...)
	if t[16] == 8 { // the packet is shorter
		binary.BigEndian.PutUint16(t[20:], binary.BigEndian.Uint16(t[20:])-4)
		sum := binary.BigEndian.Uint16(t[28:]) + 4
		if sum < 4 {
			sum++
		}
		binary.BigEndian.PutUint16(t[28:], sum)
	} else {
		binary.BigEndian.PutUint16(t[22:], binary.BigEndian.Uint16(t[22:])-4)
	}
	return t
}

func expect(t *testing.T, direction string, arrived int, limited bool) {
	t.Helper()
	if limited && (arrived < 8 || arrived > 30) {
		t.Errorf("%s: %d of %d frames arrived, the burst is 10", direction, arrived, frames)
	}
	if !limited && arrived != frames {
		t.Errorf("%s: %d of %d frames arrived", direction, arrived, frames)
	}
}

// newTap makes a bridge port, and returns what its VMM would hold.
func newTap(t *testing.T, name string) int {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	run(t, "ip link set "+name+" master br0 up")
	return fd
}

// send writes the frame many times to one tap and counts it at the other, for as
// long as the queue takes to let a few more through.
func send(t *testing.T, from, to int, frame []byte) int {
	t.Helper()
	for range frames {
		if _, err := unix.Write(from, frame); err != nil {
			t.Fatal(err)
		}
	}
	arrived := 0
	buf := make([]byte, 2*frameLength)
	deadline := time.Now().Add(200 * time.Millisecond)
	for arrived < frames && time.Now().Before(deadline) {
		n, err := unix.Read(to, buf)
		switch {
		case err == nil && n == frameLength && string(buf[:14]) == string(frame[:14]):
			arrived++
		case errors.Is(err, unix.EAGAIN):
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}}, 20)
			if err != nil && !errors.Is(err, unix.EINTR) {
				t.Fatal(err)
			}
		case err != nil:
			t.Fatal(err)
		}
	}
	return arrived
}

// frame is a broadcast of a UDP packet without content.
func frame(from, to netip.Addr) []byte {
	f := make([]byte, frameLength)
	copy(f, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01")
	ip := f[14:]
	if from.Is6() {
		binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IPV6)
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_UDP, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		copy(ip[8:], from.AsSlice())
		copy(ip[24:], to.AsSlice())
		return f
	}
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	ip[0], ip[8], ip[9] = 4<<4|5, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], from.AsSlice())
	copy(ip[16:], to.AsSlice())
	sum := uint32(0) // br_netfilter looks at it
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return f
}
