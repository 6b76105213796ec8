package splice_test

import (
	"bytes"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/splice"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

func observeShortcut(t *testing.T, port, upper int) bool {
	t.Helper()
	ok, err := splice.ObserveShortcut(port, upper)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestShortcut(t *testing.T) {
	r := newRig(t, false)
	r.vmm(r.createUpper)
	run(t, "ip link set upper up")
	port, upper := index(t, "port"), index(t, "upper")
	before := run(t, "tc qdisc show dev port")
	if observeShortcut(t, port, upper) {
		t.Error("a shortcut before there is one")
	}
	for range 2 {
		if err := splice.InstallShortcut(port, upper); err != nil {
			t.Fatal(err)
		}
		if !observeShortcut(t, port, upper) || observeShortcut(t, port, upper+1) {
			t.Error("no shortcut by the upper device, or one by another")
		}
	}
	// Frames take it: the pair carries none, and without it all.
	frame := frames[0].bytes(4)
	through := func(device string) bool {
		t.Helper()
		was := counter(t, device, "tx_packets")
		r.peer.send(frame)
		if got := r.guest.receive(patience); !bytes.Equal(got, frame) {
			t.Errorf("received %x, want %x", got, frame)
		}
		return counter(t, device, "tx_packets") > was
	}
	if !through("upper") || through("port") {
		t.Error("the frame did not take the shortcut")
	}
	for range 2 {
		if err := splice.RemoveShortcut(port); err != nil {
			t.Fatal(err)
		}
	}
	if observeShortcut(t, port, upper) || through("upper") || !through("port") {
		t.Error("the shortcut is still there")
	}
	if after := run(t, "tc qdisc show dev port"); after != before {
		t.Errorf("removed: %s\nwas: %s", after, before)
	}
}

// With a shortcut, a guest that gets rid of the program at its tap cannot get
// past its port.
func TestUpperReceivesNothing(t *testing.T) {
	r := newRig(t, true)
	r.vmm(func() {
		if err := splice.Remove(r.tap, r.inner); err != nil {
			t.Fatal(err)
		}
	})
	socket := listen(t, "upper")
	to := func(mac []byte) frame { return frame{destination: mac, payload: 10} }
	upper, err := net.InterfaceByName("upper")
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for _, f := range append([]frame{to(upper.HardwareAddr)}, frames...) {
		r.guest.send(f.bytes(5))
		sent++
	}
	if got := receive(t, socket, 0); got != nil {
		t.Errorf("the upper device received %x", got)
	}
	if n := counter(t, "upper", "rx_packets"); n != 0 {
		t.Errorf("the upper device received %d frames", n)
	}
	r.vmm(func() {
		tap, err := netlink.LinkByIndex(r.tap)
		if err != nil {
			t.Fatal(err)
		}
		if n := tap.Attrs().Statistics.RxPackets; n < uint64(sent) {
			t.Errorf("the tap received %d frames of %d", n, sent)
		}
	})
}

func counter(t *testing.T, device, name string) int {
	t.Helper()
	text, err := os.ReadFile("/sys/class/net/" + device + "/statistics/" + name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUnqueue(t *testing.T) {
	for _, tt := range []struct{ name, before, want string }{
		{"the kernel's", "", "qdisc noqueue"},
		{"done before", "tc qdisc add dev tap root noqueue", "qdisc noqueue"},
		{"somebody's", "tc qdisc add dev tap root tbf rate 1mbit burst 10k latency 1s", "qdisc tbf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sandbox.NewHost(t).Enter()
			tap := newDevice(t, "tap")
			if tt.before != "" {
				run(t, tt.before)
			}
			if err := splice.Unqueue(tap); err != nil {
				t.Fatal(err)
			}
			if got := run(t, "tc qdisc show dev tap root"); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
