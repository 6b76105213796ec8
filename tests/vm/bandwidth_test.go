package vm

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// A real guest sends and receives at its rate, in both families.
func TestGuestIsLimited(t *testing.T) {
	const (
		rate = 4_000_000 // bits a second
		size = 1_000_000 // bytes: 2 seconds at that rate
	)
	l := newLab(t, nil, keys{"ingressRate": rate, "egressRate": rate})
	v := l.add("vm1")
	l.check(v)
	g := l.boot(v, 1)
	for i, gateway := range v.gateways {
		g.MustRun(ping(gateway))
		for _, direction := range []string{"from", "to"} {
			var listener net.Listener
			l.do("listen", func() (err error) {
				listener, err = net.Listen("tcp", net.JoinHostPort(gateway, "0"))
				return err
			})
			transfer := make(chan error, 1)
			go func() { transfer <- transferOne(listener, direction == "to", size) }()
			_, port, _ := net.SplitHostPort(listener.Addr().String())
			command := fmt.Sprintf("nc %s %s < /dev/null > /tmp/got; wc -c < /tmp/got", gateway, port)
			if direction == "from" {
				command = fmt.Sprintf("dd if=/dev/zero bs=1000 count=%d 2>/dev/null | nc %s %s", size/1000, gateway, port)
			}
			start := time.Now()
			out := g.MustRun(command)
			if err := <-transfer; err != nil {
				t.Errorf("%s the guest, %s: %v\n%s", direction, v.ips[i], err, out)
			}
			if got := size * 8 / time.Since(start).Seconds(); got < rate/3 || got > rate*5/4 {
				t.Errorf("%s the guest, %s: %.0f bits a second, the limit is %d", direction, v.ips[i], got, rate)
			}
		}
	}
	l.check(v)
	g.Close()
	l.del(v)
}

// transferOne sends to the first that connects, or receives from it.
func transferOne(listener net.Listener, send bool, size int64) error {
	defer listener.Close()
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err = conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if send {
		_, err = conn.Write(make([]byte, size))
		return err
	}
	n, err := io.Copy(io.Discard, conn)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes arrived, of %d", n, size)
	}
	return err
}
