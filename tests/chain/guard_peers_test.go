package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// peer is another way to hold a guest to its addresses.
type peer struct {
	column int // in the table of docs/security.md
	arena  func(*testing.T) *arena
	lonely bool // guests do not hear each other
}

var peers = []peer{
	{4, func(t *testing.T) *arena { return newPeerArena(t, conf{"macspoofchk": true}) }, false},
	{5, func(t *testing.T) *arena { return newPeerArena(t, conf{"macspoofchk": true, "portIsolation": true}) }, true},
	{6, func(t *testing.T) *arena { return newRuledArena(t, libvirtRules) }, false},
	{7, func(t *testing.T) *arena { return newRuledArena(t, incusRules) }, false},
}

// What peers stop of the attacks, for the table in docs/security.md, which has to
// say so: the plugin bridge, and what libvirt and incus ask of the firewall.
func TestWhatPeersStop(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range peers {
		for _, name := range []string{"mac", "l2", "arp", "ip4", "ip6", "nd", "dhcp", "reach"} {
			t.Run(fmt.Sprint(peer.column, " ", name), func(t *testing.T) {
				a := peer.arena(t)
				inOrder(t)
				attacks := group(name)
				var stopped []string
				for _, attempt := range attacks {
					if !a.arrives(attempt, !peer.lonely) {
						stopped = append(stopped, attempt.Name)
					}
				}
				t.Logf("%d of %d: %q", len(stopped), len(attacks), stopped)
				if want := cell(string(text), " `"+name+"/`", peer.column); want != fmt.Sprint(len(stopped)) {
					t.Errorf("docs/security.md says %q", want)
				}
			})
		}
		t.Run(fmt.Sprint(peer.column, " legitimate"), func(t *testing.T) {
			a := peer.arena(t)
			inOrder(t)
			var stopped []string
			for _, attempt := range frames.Legitimate {
				if attempt.Rules.Equal(frames.Typical) && !a.passes(attempt) {
					stopped = append(stopped, attempt.Name)
				}
			}
			t.Logf("%d are stopped: %q", len(stopped), stopped)
			if want := cell(string(text), " legitimate", peer.column); want != fmt.Sprint(len(stopped)) {
				t.Errorf("docs/security.md says %q", want)
			}
		})
	}
}

// inOrder keeps frames of a veth in order: on one CPU.
func inOrder(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.SchedSetaffinity(0, &unix.CPUSet{1}); err != nil {
		t.Fatal(err)
	}
}

// libvirtRules have the meaning of libvirt's filter clean-traffic (9.0), for what
// comes from the guest. libvirt puts it into ebtables, at the same place.
const libvirtRules = `
table bridge peer {
	chain guest {
		ether saddr != MAC drop
		ether type ip ip saddr { 0.0.0.0, IP4 } goto address
		ether type arp arp saddr ether MAC arp saddr ip IP4 accept
		ether type 0x0835 accept
		ether type 0x8035 ether daddr ff:ff:ff:ff:ff:ff @nh,48,16 3 @nh,64,48 HEX @nh,112,32 0 @nh,144,48 HEX @nh,192,32 0 accept
		drop
	}
	chain address {
		ip saddr IP4 accept
		ip protocol udp accept
		drop
	}
	chain port {
		type filter hook prerouting priority -300
		iifname PORT goto guest
	}
}`

// incusRules have the meaning of what incus (6) does for a NIC with
// security.mac_filtering, security.ipv4_filtering and security.ipv6_filtering, and
// one address of each family.
const incusRules = `
table bridge peer {
	chain leases {
		ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp dport 67 accept
		ip6 saddr fe80::/10 ip6 daddr ff02::1:2 udp dport 547 accept
		ip6 saddr fe80::/10 ip6 daddr ff02::2 icmpv6 type 133 accept
	}
	chain sender {
		ether saddr != MAC drop
		ether type arp arp saddr ether != MAC drop
		ether type ip6 icmpv6 type 136 @nh,528,48 != HEX drop
	}
	chain address {
		ether type arp arp saddr ip != IP4 drop
		ether type ip ip saddr != IP4 drop
		ether type ip6 icmpv6 type 134 drop
		ether type ip6 icmpv6 type 136 @nh,384,128 != HEX6 drop
		ether type ip6 ip6 saddr != IP6 drop
		ether type != { arp, ip, ip6 } drop
	}
	chain host {
		type filter hook input priority -200
		iifname PORT jump sender
		iifname PORT jump leases
		iifname PORT jump address
	}
	chain guests {
		type filter hook forward priority -200
		iifname PORT jump sender
		iifname PORT jump address
	}
}`

// newRuledArena is an arena without a guard, but with those rules.
func newRuledArena(t *testing.T, rules string) *arena {
	t.Helper()
	a := newArena(t, tap, conf{"guard": conf{"mode": "off"}}, neighbourOf)
	address := netip.MustParseAddr(frames.Guest6)
	for _, r := range [][2]string{
		{"PORT", a.port},
		{"HEX6", fmt.Sprintf("0x%x", address.AsSlice())},
		{"HEX", "0x" + strings.ReplaceAll(frames.GuestMAC, ":", "")},
		{"MAC", frames.GuestMAC},
		{"IP4", frames.Guest4},
		{"IP6", frames.Guest6},
	} {
		rules = strings.ReplaceAll(rules, r[0], r[1])
	}
	a.h.sh("nft -f - <<'END'\n" + rules + "\nEND")
	t.Cleanup(func() { a.h.sh("nft delete table bridge peer") })
	return a
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

// passes tells whether a frame comes to whom it is sent, once in three times.
func (a *arena) passes(attempt frames.Attempt) bool {
	a.t.Helper()
	f := frames.Sealed(attempt.Frame)
	for range 3 {
		a.neighbour.pending()
		if _, err := a.guest.fd.Write(withHeader(f)); err != nil {
			a.t.Fatal(err)
		}
		heard := a.barrier()
		if bytes.Equal(f[:6], a.neighbour.mac) {
			heard = a.neighbour.pending()
		}
		if slices.ContainsFunc(heard, func(got []byte) bool { return bytes.Equal(got, f) }) {
			return true
		}
	}
	return false
}

// cell is one of the table "Beside others".
func cell(text, row string, column int) string {
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > column && strings.HasPrefix(cells[1], row) {
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
