package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// What the plugin bridge stops of the attacks, for the table in docs/security.md,
// which has to say so.
func TestWhatBridgeStops(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range []struct {
		column int // in the table
		more   conf
	}{
		{4, conf{"macspoofchk": true}},
		{5, conf{"macspoofchk": true, "portIsolation": true}},
	} {
		for _, name := range []string{"mac", "l2", "arp", "ip4", "ip6", "nd", "dhcp", "reach"} {
			t.Run(fmt.Sprint(peer.column, " ", name), func(t *testing.T) {
				a := newPeerArena(t, peer.more)
				// Frames of a veth stay in order on one CPU.
				runtime.LockOSThread()
				if err := unix.SchedSetaffinity(0, &unix.CPUSet{1}); err != nil {
					t.Fatal(err)
				}
				attacks := group(name)
				var stopped []string
				for _, attempt := range attacks {
					if !a.arrives(attempt, peer.more["portIsolation"] == nil) {
						stopped = append(stopped, attempt.Name)
					}
				}
				t.Logf("%d of %d: %q", len(stopped), len(attacks), stopped)
				if want := cell(string(text), name, peer.column); want != fmt.Sprint(len(stopped)) {
					t.Errorf("docs/security.md says %q", want)
				}
			})
		}
	}
}

// arrives tells whether an attack does something twice in three times: a veth may
// leave a frame to ksoftirqd, and then it is heard too late, and what the attack
// before changes in a table the host may change later.
func (a *arena) arrives(attempt frames.Attempt, heard bool) bool {
	a.t.Helper()
	yes, no := 0, 0
	for yes < 2 && no < 2 {
		if heard { // the neighbour is still there
			a.neighbour.send(frames.Eth(frames.GatewayMAC, frames.NeighbourMAC, 0x88b5, frames.Zeros(60)))
			a.barrier()
			a.before = ""
		}
		harm, _ := a.achieved(frames.Sealed(attempt.Frame), [vnetHeader]byte{})
		if len(harm) > 0 {
			yes++
		} else {
			no++
		}
	}
	return yes > no
}

// cell is one of the table "Beside others".
func cell(text, row string, column int) string {
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > column && strings.HasPrefix(cells[1], " `"+row+"/`") {
			return strings.TrimSpace(cells[column])
		}
	}
	return ""
}

// newPeerArena is an arena whose guests are containers of the plugin bridge: the
// test holds packet sockets at their NICs, and their kernels keep quiet.
func newPeerArena(t *testing.T, more conf) *arena {
	t.Helper()
	h := newHost(t)
	h.bridge("br0", "address "+frames.GatewayMAC)
	h.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1") // or the veths' ends speak, too
	n := h.network("lab", "1.0.0", conf{"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": conf{"type": "static"}}.with(more))
	a := &arena{t: t, h: h, n: n}
	a.v, a.port, a.guest = a.container(station{"guest", frames.GuestMAC, frames.Guest4, frames.Guest6})
	_, _, a.neighbour = a.container(neighbourOf)
	a.watch(neighbourOf)
	return a
}

func (a *arena) container(s station) (v vm, port string, nic *vmmSide) {
	a.t.Helper()
	v = a.h.vm(s.name)
	v.ifname, v.args = s.name, s.args()
	r := a.n.add(v)
	a.t.Cleanup(func() { a.n.remove(v) })
	port = portOf(r)
	a.h.sh(fmt.Sprintf("ip -n guests addr flush dev %[1]s; ip -n guests link set %[1]s arp off; ip netns exec guests sysctl -qw net.ipv6.conf.%[1]s.disable_ipv6=1", s.name))
	nic = &vmmSide{t: a.t}
	nic.mac, _ = net.ParseMAC(s.mac)
	err := a.h.do(func() error {
		if err := enter(v.netns); err != nil {
			return err
		}
		link, err := net.InterfaceByName(s.name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		nic.fd = os.NewFile(uintptr(fd), "packet")
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = nic.fd.Close() })
	return v, port, nic
}
