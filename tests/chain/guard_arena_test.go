package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/guard"
	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// arena is a bridge with a guest on it whose tap the test holds, and all who
// watch: a neighbour's NIC, the host's side of the bridge, its tables.
type arena struct {
	t                *testing.T
	h                *host
	n                *network
	v                vm
	guest, neighbour *vmmSide
	port             string
	index            int // of the port; 0 for one without a guard
	wire             int // a packet socket at br0
	serial           uint16
	before           string // the tables after the last frame
}

// placements are where a guest's tap may be.
var placements = map[string]conf{"host": tap, "netns": awayTap}

// neighbourOf is who else is on the bridge.
var neighbourOf = station{"neighbour", frames.NeighbourMAC, frames.Neighbour4, frames.Neighbour6}

type station struct{ name, mac, ip4, ip6 string }

// args give a station its addresses.
func (s station) args() string {
	return fmt.Sprintf("IgnoreUnknown=1;MAC=%s;IP=%s/24,%s/64;GATEWAY=%s,%s", s.mac, s.ip4, s.ip6, frames.Gateway4, frames.Gateway6)
}

// newArena attaches a guest and a neighbour, configured alike, through the plugins.
func newArena(t *testing.T, tap, more conf, neighbour station) *arena {
	t.Helper()
	h := newHost(t)
	h.bridge("br0", "address "+frames.GatewayMAC)
	if more["vlanTrunk"] != nil {
		h.sh("ip link set br0 type bridge vlan_filtering 1")
	}
	n := h.network("lab", newest, tap, gateway.with(conf{"ipam": conf{"type": "static"}}).with(more))
	a := &arena{t: t, h: h, n: n}
	var r *types100.Result
	a.v, r, a.guest = a.attach(station{"guest", frames.GuestMAC, frames.Guest4, frames.Guest6})
	others := *n
	if g, _ := more["guard"].(conf); g["macs"] != nil || g["addresses"] != nil {
		others.plugins = []conf{n.plugins[0], n.plugins[1].with(conf{"guard": nil})}
	}
	_, _, a.neighbour = (&arena{t: t, h: h, n: &others}).attach(neighbour)
	a.port = portOf(r)
	a.watch(neighbour)
	return a
}

func (a *arena) attach(s station) (vm, *types100.Result, *vmmSide) {
	a.t.Helper()
	v := a.h.vm(s.name)
	v.ifname, v.args = s.name, s.args()
	r := a.n.add(v)
	n := a.n
	a.t.Cleanup(func() { n.remove(v) })
	return v, r, a.h.plugIn(v, r)
}

// watch opens the host's ear, and waits until guest and neighbour are heard.
func (a *arena) watch(neighbour station) {
	a.t.Helper()
	err := a.h.do(func() error {
		br, err := net.InterfaceByName("br0")
		if err != nil {
			return err
		}
		port, err := net.InterfaceByName(a.port)
		if err != nil {
			return err
		}
		_, state, err := guard.Observe(port.Index)
		if err != nil {
			return err
		}
		if state == guard.InPlace {
			a.index = port.Index
		}
		if a.wire, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		return errors.Join(unix.SetsockoptInt(a.wire, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<23),
			unix.Bind(a.wire, &unix.SockaddrLinklayer{Protocol: all, Ifindex: br.Index}))
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = unix.Close(a.wire) })
	for _, s := range []struct {
		nic *vmmSide
		ip  string
	}{{a.guest, frames.Guest4}, {a.neighbour, neighbour.ip4}} {
		s.nic.t = a.t
		if !a.forwards(s.nic, s.ip) {
			a.t.Fatalf("%s is not heard on the bridge", s.ip)
		}
	}
	a.barrier() // by now the host has the caches that it is going to have
}

// forwards waits until the bridge takes frames from the NIC, which it does once the kernel
// has noticed the carrier of the port.
func (a *arena) forwards(nic *vmmSide, ip string) bool {
	a.t.Helper()
	hello := frames.Eth(frames.GatewayMAC, nic.mac.String(), frames.TypeARP, frames.ARP(1, nic.mac.String(), ip, frames.Broadcast, frames.Gateway4))
	return eventually(func() bool {
		nic.send(hello)
		return a.hears(hello, 100*time.Millisecond)
	})
}

// overheard returns the next frame that the bridge gave the host, nil for none in time.
func (a *arena) overheard(patience time.Duration) []byte {
	a.t.Helper()
	b := make([]byte, 1<<17)
	for end := time.Now().Add(patience); ; {
		n, from, err := unix.Recvfrom(a.wire, b, 0)
		switch {
		case err == nil:
			if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
				return bytes.Clone(b[:n])
			}
		case !errors.Is(err, unix.EAGAIN):
			a.t.Fatal(err)
		case time.Now().After(end):
			return nil
		default:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(a.wire), Events: unix.POLLIN}}, 10)
		}
	}
}

// hears tells whether the host gets the frame.
func (a *arena) hears(frame []byte, patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if bytes.Equal(a.overheard(patience), frame) {
			return true
		}
	}
	return false
}

// barrier waits until all is through that the guest sent, and returns what of it
// the host was given.
func (a *arena) barrier() (heard [][]byte) {
	a.t.Helper()
	a.serial++
	last := frames.Cat(frames.Eth(frames.GatewayMAC, frames.GuestMAC, frames.TypeARP, frames.ARP(1, frames.GuestMAC, frames.Guest4, frames.Broadcast, frames.Gateway4)),
		frames.Uint16(int(a.serial)), frames.Zeros(16))
	a.guest.send(last)
	for {
		f := a.overheard(10 * time.Second)
		if f == nil {
			a.t.Fatal("an ARP request of the guest's own does not arrive")
		}
		if bytes.Equal(f, last) {
			return heard
		}
		heard = append(heard, f)
	}
}

// tables is whom the host and the bridge take for whom, and which ports they take
// for those of multicast routers. That the guest is itself may come and go, and so
// may the groups that the host itself is in.
func (a *arena) tables() string {
	a.t.Helper()
	var out bytes.Buffer
	err := a.h.do(func() error {
		bridge := exec.Command("bridge", "-d", "-batch", "-")
		bridge.Stdin = strings.NewReader("fdb show br br0\nmdb show dev br0\n")
		neighbours := exec.Command("ip", "neigh", "show", "dev", "br0")
		bridge.Stdout, neighbours.Stdout = &out, &out
		return errors.Join(bridge.Run(), neighbours.Run())
	})
	if err != nil {
		a.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, " lladdr ") { // but for what the kernel thinks of it
			line = strings.TrimRight(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ \n")
		}
		switch line = strings.TrimSpace(line); {
		case line == frames.Guest4+" lladdr "+frames.GuestMAC, strings.Contains(line, " port br0 "), strings.HasSuffix(line, "INCOMPLETE"), strings.HasSuffix(line, "FAILED"):
		default:
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// judged is how many frames the guard saw.
func (a *arena) judged() (sum uint64) {
	a.t.Helper()
	err := a.h.do(func() error {
		pass, drops, err := guard.Counters(a.index)
		for _, n := range drops {
			sum += n
		}
		sum += pass
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return sum
}

// achieved sends a frame and tells what it brought about, and that it could not
// even be sent.
func (a *arena) achieved(frame []byte, header [vnetHeader]byte) (harm []string, refused bool) {
	a.t.Helper()
	if a.before == "" {
		a.before = a.tables()
	}
	var seen uint64
	if a.index != 0 {
		seen = a.judged()
	}
	if _, err := a.guest.fd.Write(frames.Cat(header[:], frame)); errors.Is(err, unix.EINVAL) && header[1] != 0 {
		return nil, true
	} else if err != nil {
		a.t.Fatal(err)
	}
	if a.index != 0 && !eventually(func() bool { return a.judged() > seen }) {
		a.t.Fatal("the guard never saw the frame")
	}
	for range a.barrier() {
		harm = append(harm, "the host got it")
	}
	for _, f := range a.neighbour.pending() {
		// The host itself speaks at any time; a frame with its MAC is the guest's if it says the same.
		said := frame[14:min(len(frame), 40)]
		if !bytes.Equal(f[6:12], frames.MAC(frames.GatewayMAC)) || len(said) > 0 && bytes.HasPrefix(f[14:], said) {
			harm = append(harm, "the neighbour got it")
		}
	}
	after := a.tables()
	if after != a.before {
		harm = append(harm, "it changed "+changed(a.before, after))
	}
	a.before = after
	return harm, false
}

// changed are the lines that are in one text only.
func changed(before, after string) string {
	var lines []string
	for _, pair := range [][2]string{{before, after}, {after, before}} {
		for line := range strings.Lines(pair[0]) {
			if !strings.Contains(pair[1], line) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(lines, "; ")
}

// pending are the frames that came up to now.
func (w *vmmSide) pending() (all [][]byte) {
	w.t.Helper()
	conn, err := w.fd.SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	b := make([]byte, 1<<17)
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			var n int
			if n, failed = unix.Read(int(fd), b); failed != nil {
				return
			}
			all = append(all, bytes.Clone(b[vnetHeader:n]))
		}
	})
	if err != nil || !errors.Is(failed, unix.EAGAIN) {
		w.t.Fatal(err, failed)
	}
	return all
}
