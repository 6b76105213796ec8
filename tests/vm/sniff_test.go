package vm

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// guestAt is a guest, and what it was told of its network.
type guestAt struct {
	*guest.Guest
	v *vm
}

// sums is what was seen of checksums.
type sums struct {
	tcp4, tcp6 int
	partial    int // that the receiver's side is to complete
	long       int // longer than the MTU: to be cut up
	bad        int
	first      string // bad one
}

type sniffer struct {
	quit chan struct{}
	done chan sums
}

// sniff looks at all frames on all links of the host, until it is stopped.
func (l *lab) sniff() *sniffer {
	l.t.Helper()
	var fd int
	l.do("open packet socket", func() (err error) {
		all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000})
	})
	s := &sniffer{quit: make(chan struct{}), done: make(chan sums, 1)}
	go s.watch(fd)
	return s
}

func (s *sniffer) stop() sums {
	close(s.quit)
	select {
	case seen := <-s.done:
		return seen
	case <-time.After(time.Minute):
		return sums{bad: -1, first: "the sniffer does not end"}
	}
}

func (s *sniffer) watch(fd int) {
	defer unix.Close(fd)
	var seen sums
	b := make([]byte, 1<<17)
	for {
		n, err := unix.Read(fd, b)
		if err == nil {
			seen.look(b[:n])
			continue
		}
		select {
		case <-s.quit:
			s.done <- seen
			return
		default:
		}
	}
}

const (
	header   = 10 // struct virtio_net_hdr
	ethernet = 14
)

// look takes one frame into account.
func (s *sums) look(b []byte) {
	if len(b) < header+ethernet+40 {
		return
	}
	partial := b[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
	f := b[header:]
	ip := f[ethernet:]
	var pseudo, segment []byte
	switch binary.BigEndian.Uint16(f[12:]) {
	case unix.ETH_P_IP:
		end := int(binary.BigEndian.Uint16(ip[2:]))
		ihl := int(ip[0]&15) * 4
		if ip[9] != unix.IPPROTO_TCP || end > len(ip) || end < ihl+20 {
			return
		}
		pseudo, segment = ip[12:20], ip[ihl:end]
		s.tcp4++
		if sum(ip[:ihl], 0) != 0xffff {
			s.fault("IPv4 header", f)
		}
	case unix.ETH_P_IPV6:
		end := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if ip[6] != unix.IPPROTO_TCP || end > len(ip) || end < 60 {
			return
		}
		pseudo, segment = ip[8:40], ip[40:end]
		s.tcp6++
	default:
		return
	}
	if len(f) > ethernet+1500 {
		s.long++
	}
	base := sum(pseudo, uint32(unix.IPPROTO_TCP+len(segment)))
	switch {
	case partial:
		s.partial++
		if binary.BigEndian.Uint16(segment[16:]) != base {
			s.fault("beginning of TCP", f)
		}
	case sum(segment, uint32(base)) != 0xffff:
		s.fault("TCP", f)
	}
}

func (s *sums) fault(what string, f []byte) {
	if s.bad++; s.first == "" {
		s.first = fmt.Sprintf("%s in %d bytes: %x", what, len(f), f[:min(len(f), 80)])
	}
}

// sum is the sum of RFC 1071, not yet inverted.
func sum(b []byte, start uint32) uint16 {
	total := uint64(start)
	for ; len(b) > 1; b = b[2:] {
		total += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint64(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
