//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/bench/netns"
)

const pingInterval = 20 * time.Millisecond

// sample is what one run showed.
type sample struct {
	goodput     float64 // payload bits a second, from the first byte received to the end
	rtt50       time.Duration
	rtt95       time.Duration
	lost        float64 // share of pings without an answer
	retransmits uint32  // TCP segments sent again
	duration    time.Duration
	cpu         time.Duration // of the whole rig: both ends, bridge and wire
}

// cost is CPU time in ms for each Gbit of payload.
func (s sample) cost() float64 {
	return float64(s.cpu.Milliseconds()) / (s.goodput * s.duration.Seconds() / 1e9)
}

// load sends TCP from one namespace to the other for that long, and pings with
// small UDP packets meanwhile.
func load(from, to netns.Namespace, toIP, congestion string, duration time.Duration) (sample, error) {
	var s sample
	var listener net.Listener
	var echo net.PacketConn
	err := to.Do(func() (err error) {
		if listener, err = net.Listen("tcp", net.JoinHostPort(toIP, "0")); err != nil {
			return err
		}
		echo, err = net.ListenPacket("udp", net.JoinHostPort(toIP, "0"))
		return err
	})
	if err != nil {
		return s, fmt.Errorf("listen: %w", err)
	}
	defer listener.Close()
	defer func() { _ = echo.Close() }()
	var stream, ping net.Conn
	err = from.Do(func() (err error) {
		dialer := net.Dialer{Timeout: 10 * time.Second, Control: useCongestion(congestion)}
		if stream, err = dialer.Dial("tcp", listener.Addr().String()); err != nil {
			return err
		}
		ping, err = net.Dial("udp", echo.LocalAddr().String())
		return err
	})
	if err != nil {
		return s, fmt.Errorf("connect: %w", err)
	}
	defer stream.Close()
	defer ping.Close()
	sink, err := listener.Accept()
	if err != nil {
		return s, err
	}
	defer sink.Close()

	go echoAll(echo)
	go send(stream)
	pings := make(chan []time.Duration)
	go func() { pings <- pingFor(ping, duration) }()
	before := cpuTime()
	if s.goodput, err = receive(sink, duration); err != nil {
		return s, fmt.Errorf("receive: %w", err)
	}
	s.cpu, s.duration = cpuTime()-before, duration
	s.retransmits = retransmits(stream)
	s.summarise(<-pings)
	return s, nil
}

func useCongestion(name string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) {
			inner = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
		})
		return errors.Join(err, inner)
	}
}

func send(stream net.Conn) {
	block := make([]byte, 256<<10)
	for {
		if _, err := stream.Write(block); err != nil {
			return // the receiver has seen enough
		}
	}
}

func receive(sink net.Conn, duration time.Duration) (float64, error) {
	buf := make([]byte, 1<<20)
	total, err := sink.Read(buf)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := sink.SetReadDeadline(start.Add(duration)); err != nil {
		return 0, err
	}
	for {
		n, err := sink.Read(buf)
		total += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return float64(total) * 8 / time.Since(start).Seconds(), nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func echoAll(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}

// pingFor returns the round-trip times of the pings sent, 0 for those lost.
func pingFor(c net.Conn, duration time.Duration) []time.Duration {
	rtts := make([]time.Duration, int(duration/pingInterval))
	sent := make([]atomic.Int64, len(rtts))
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		_ = c.SetReadDeadline(start.Add(duration + time.Second))
		for {
			if _, err := io.ReadFull(c, buf[:2]); err != nil {
				return
			}
			i := int(buf[0])<<8 | int(buf[1])
			rtts[i] = time.Since(start) - time.Duration(sent[i].Load())
			if i == len(rtts)-1 {
				return
			}
		}
	}()
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for i := range rtts {
		sent[i].Store(int64(time.Since(start)))
		_, _ = c.Write([]byte{byte(i >> 8), byte(i)})
		<-ticker.C
	}
	<-done
	return rtts
}

// summarise leaves the first fifth of the pings out: the queue fills then.
func (s *sample) summarise(rtts []time.Duration) {
	rtts = slices.Clone(rtts[len(rtts)/5:])
	slices.Sort(rtts)
	answered := rtts
	for len(answered) > 0 && answered[0] == 0 {
		answered = answered[1:]
	}
	s.lost = 1 - float64(len(answered))/float64(len(rtts))
	if len(answered) > 0 {
		s.rtt50 = answered[len(answered)/2]
		s.rtt95 = answered[len(answered)*95/100]
	}
}

func retransmits(stream net.Conn) uint32 {
	connection, ok := stream.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := connection.SyscallConn()
	if err != nil {
		return 0
	}
	var n uint32
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Total_retrans
		}
	})
	return n
}

func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
