package kerneltest

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func testHolder(h *host) {
	bridge := h.bridge("br0")
	other := h.bridge("br1")
	port := h.port("tap0", "br0")
	unknown := parseMAC("02:aa:00:00:00:01")
	h.holder("br0", port.MAC, "tap0")
	h.holder("br0", bridge.MAC, "br0")
	h.holder("br0", unknown, "")
	h.holder("br1", port.MAC, "")
	h.holder("br1", other.MAC, "br1")

	moved := h.set(port, linkspec.Link{MAC: unknown})
	h.holder("br0", unknown, "tap0")
	h.holder("br0", port.MAC, "")
	h.set(moved, linkspec.Link{Master: new("")})
	h.holder("br0", unknown, "")
}

func testSysctl(h *host) {
	const key = "net.ipv4.ip_forward"
	for _, value := range []string{"1", "0"} {
		h.must(h.SetSysctl(key, value))
		got, err := h.Sysctl(key)
		h.must(err)
		if got != value {
			h.t.Errorf("%s is %q, want %q", key, got, value)
		}
	}
	h.tap("tap0")
	h.must(h.SetSysctl("net.ipv6.conf.tap0.accept_ra", "0"))
	h.must(h.SetSysctl("net.ipv4.conf.tap0.arp_ignore", "2"))
	h.shows(h.link("tap0"), linkspec.Link{AcceptRA: new(false), ARPIgnore: new(true), Forwarding: new(false)})
	// The host's forwarding is that of all links, and each may be set apart after that.
	h.must(h.SetSysctl(key, "1"))
	h.shows(h.link("tap0"), linkspec.Link{Forwarding: new(true)})
	h.must(h.SetSysctl("net.ipv4.conf.tap0.forwarding", "0"))
	h.shows(h.link("tap0"), linkspec.Link{Forwarding: new(false)})
}

func testLock(h *host) {
	var inside atomic.Int32
	done := make(chan error)
	const workers = 8
	for range workers {
		go func() {
			unlock, err := h.Lock(h.t.Context())
			if err == nil {
				if n := inside.Add(1); n != 1 {
					h.t.Errorf("%d hold the lock", n)
				}
				inside.Add(-1)
				unlock()
			}
			done <- err
		}()
	}
	for range workers {
		h.must(<-done)
	}
}

func testLockContext(h *host) {
	unlock, err := h.Lock(h.t.Context())
	h.must(err)
	ctx, cancel := context.WithCancel(h.t.Context())
	cancel()
	_, err = h.Lock(ctx)
	var e *cnierr.Error
	if !errors.Is(err, context.Canceled) || !errors.As(err, &e) || e.Code != cnierr.TryAgain {
		h.t.Errorf("error is %v, want code %d", err, cnierr.TryAgain)
	}
	unlock()
	// The wait that was given up must not keep the lock.
	unlock, err = h.Lock(h.t.Context())
	h.must(err)
	unlock()
}
