package chain

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wire is what a VMM holds of a tap: whole frames go in and out.
type wire struct {
	t      *testing.T
	fd     int
	header int // bytes before each frame (struct virtio_net_hdr)
	close  func()
}

// plug attaches to a tap that is there, as a VMM would.
func (h *host) plug(name string) wire {
	h.t.Helper()
	w := wire{t: h.t, header: 10}
	err := h.do(func() (err error) {
		if w.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		return unix.IoctlIfreq(w.fd, unix.TUNSETIFF, request)
	})
	if err != nil {
		h.t.Fatalf("attach to %s: %v", name, err)
	}
	w.close = sync.OnceFunc(func() { _ = unix.Close(w.fd) })
	h.t.Cleanup(w.close)
	if strings.Contains(h.sh("ip link show dev "+name), " master ") {
		h.forwards(name)
	}
	return w
}

// forwards waits until the kernel has noticed that a port was plugged in, which it
// does now and then only.
func (h *host) forwards(port string) {
	h.t.Helper()
	if !eventually(func() bool { return strings.Contains(h.sh("bridge link show dev "+port), "state forwarding") }) {
		h.t.Errorf("%s does not forward: %s", port, h.sh("bridge link show dev "+port))
	}
}

// peer puts a tap of the test's own on br0, until it is pulled.
func (h *host) peer() (w wire, pull func()) {
	h.t.Helper()
	h.tap("peer")
	w = h.plug("peer")
	h.sh("ip link set peer master br0 up")
	h.forwards("peer")
	return w, func() { h.sh("ip link del peer") }
}

func (w wire) write(frame []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.fd, append(make([]byte, w.header), frame...)); err != nil {
		w.t.Fatal(err)
	}
}

// read returns the bytes of frames like this one that arrive until the time.
func (w wire) read(frame []byte, until time.Time, enough int) (bytes int) {
	buf := make([]byte, 1<<14)
	for bytes < enough && time.Now().Before(until) {
		n, err := unix.Read(w.fd, buf)
		n -= w.header
		switch {
		case err == nil && n == len(frame) && string(buf[w.header:w.header+12]) == string(frame[:12]):
			bytes += n
		case errors.Is(err, unix.EAGAIN):
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, 10)
			if err != nil && !errors.Is(err, unix.EINTR) {
				w.t.Error(err)
				return bytes
			}
		case err != nil:
			w.t.Error(err)
			return bytes
		}
	}
	return bytes
}

// burst sends 100 frames at once and counts those that arrive soon.
func burst(from, to wire, frame []byte) int {
	from.t.Helper()
	return hundred(from, to, frame, 200*time.Millisecond)
}

// freely is burst for frames that all arrive, on a busy machine later.
func freely(from, to wire, frame []byte) int {
	from.t.Helper()
	return hundred(from, to, frame, 10*time.Second)
}

func hundred(from, to wire, frame []byte, patience time.Duration) int {
	from.t.Helper()
	for range 100 {
		from.write(frame)
	}
	return to.read(frame, time.Now().Add(patience), 100*len(frame)) / len(frame)
}

// rate sends some 50 Mbit/s for a second, or as much as a slow machine can, and
// returns at how many arrive.
func rate(from, to wire, frame []byte) float64 {
	from.t.Helper()
	const span = time.Second
	begin := time.Now()
	end := begin.Add(span)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for time.Now().Before(end) {
			for range 5 {
				_, _ = unix.Write(from.fd, append(make([]byte, from.header), frame...))
			}
			<-tick.C
		}
	}()
	bytes := to.read(frame, end, 1<<62)
	took := time.Since(begin)
	<-sent
	to.read(frame, time.Now().Add(50*time.Millisecond), 1<<62) // for the next to begin with empty queues
	return float64(bytes) * 8 / took.Seconds() / 1e6
}

// datagram is a broadcast of a UDP packet without content, as a frame.
func datagram(from, to string, length int) []byte {
	f := make([]byte, length)
	copy(f, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01")
	ip := f[14:]
	source, destination := netip.MustParseAddr(from), netip.MustParseAddr(to)
	if source.Is6() {
		binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IPV6)
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_UDP, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		copy(ip[8:], source.AsSlice())
		copy(ip[24:], destination.AsSlice())
		return f
	}
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	ip[0], ip[8], ip[9] = 4<<4|5, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], source.AsSlice())
	copy(ip[16:], destination.AsSlice())
	sum := uint32(0) // br_netfilter looks at it
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return f
}
