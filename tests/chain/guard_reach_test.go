package chain

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/guard"
	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// listen has TCP services on the host, which answer without anybody's doing.
func (a *arena) listen(addresses ...string) {
	a.t.Helper()
	for _, address := range addresses {
		err := a.h.do(func() error {
			l, err := net.Listen("tcp", address)
			if err == nil {
				a.t.Cleanup(func() { _ = l.Close() })
			}
			return err
		})
		if err != nil {
			a.t.Fatal(err)
		}
	}
}

// answered tells whether the host, which answers at once, answers a packet of the
// guest's with a packet of the protocol, whose first bytes are those.
func (a *arena) answered(packet []byte, from string, protocol byte, flags func(transport []byte) bool) bool {
	a.t.Helper()
	return a.answeredTo(frames.GatewayMAC, packet, from, protocol, flags)
}

// answeredTo is answered, of a packet to that MAC address.
func (a *arena) answeredTo(mac string, packet []byte, from string, protocol byte, flags func(transport []byte) bool) bool {
	a.t.Helper()
	ethertype, header, at, src := frames.TypeIPv4, 20, 9, 12
	if packet[0]>>4 == 6 {
		ethertype, header, at, src = frames.TypeIPv6, 40, 6, 8
	}
	a.guest.pending()
	a.guest.send(frames.Sealed(frames.Eth(mac, frames.GuestMAC, ethertype, packet)))
	a.barrier()
	address := frames.Prefixes(from)[0].Addr().AsSlice()
	found := false
	// The barrier is a question, too: what came before its answer is all.
	a.guest.receive(10*time.Second, func(f []byte) bool {
		p := f[14:]
		if len(p) >= header+20 && bytes.Equal(p[src:src+len(address)], address) && p[at] == protocol && flags(p[header:]) {
			found = true
		}
		return f[12] == 8 && f[13] == 6 && f[21] == 2
	})
	return found
}

func synAck(tcp []byte) bool { return tcp[13] == 0x12 }
func pong4(icmp []byte) bool { return icmp[0] == 0 }
func pong6(icmp []byte) bool { return icmp[0] == 129 }
func port4(icmp []byte) bool { return icmp[0] == 3 && icmp[1] == 3 }
func port6(icmp []byte) bool { return icmp[0] == 1 && icmp[1] == 4 }

func syn(to int) []byte { return frames.TCP(40000, to) }

// toServices are packets to the host, and with which hostAccess they are answered.
var toServices = []struct {
	name         string
	packet       []byte
	from         string
	protocol     byte
	answer       func([]byte) bool
	all, gateway bool
}{
	{"ping of the gateway", frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoICMP, frames.ICMP(8, frames.Zeros(16))), frames.Gateway4 + "/32", 1, pong4, true, true},
	{"ping of the gateway, v6", frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoICMPv6, frames.ICMP(128, frames.Zeros(16))), frames.Gateway6 + "/128", 58, pong6, true, true},
	{"DNS by TCP", frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoTCP, syn(53)), frames.Gateway4 + "/32", 6, synAck, true, true},
	{"DNS by TCP, v6", frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoTCP, syn(53)), frames.Gateway6 + "/128", 6, synAck, true, true},
	{"DNS by UDP", frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoUDP, frames.UDP(40000, 53)), frames.Gateway4 + "/32", 1, port4, true, true},
	{"DNS by UDP, v6", frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoUDP, frames.UDP(40000, 53)), frames.Gateway6 + "/128", 58, port6, true, true},
	{"service", frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoTCP, syn(2222)), frames.Gateway4 + "/32", 6, synAck, true, false},
	{"service, v6", frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoTCP, syn(2222)), frames.Gateway6 + "/128", 6, synAck, true, false},
	{"other address", frames.IP4(frames.Guest4, "198.51.100.1", frames.ProtoTCP, syn(2222)), "198.51.100.1/32", 6, synAck, true, false},
	{"other address, v6", frames.IP6(frames.Guest6, "2001:db8:1::1", frames.ProtoTCP, syn(2222)), "2001:db8:1::1/128", 6, synAck, true, false},
	{"ping of another address", frames.IP4(frames.Guest4, "198.51.100.1", frames.ProtoICMP, frames.ICMP(8, frames.Zeros(16))), "198.51.100.1/32", 1, pong4, true, false},
}

// answersAt tells whether the host answers a connection to a MAC address, from one of
// 20 ports of the guest. None may have come from there before: the host would answer
// that again by itself.
func (a *arena) answersAt(mac string, first int) bool {
	a.t.Helper()
	for from := first; from < first+20; from++ { // the host may be busy
		packet := frames.IP4(frames.Guest4, "198.51.100.1", frames.ProtoTCP, frames.TCP(from, 2222))
		toThis := func(tcp []byte) bool { return synAck(tcp) && int(binary.BigEndian.Uint16(tcp[2:])) == from }
		if a.answeredTo(mac, packet, "198.51.100.1/32", 6, toThis) {
			return true
		}
	}
	return false
}

// strangeMACs are MAC addresses that are not those of who routes for the guest.
func (a *arena) strangeMACs() map[string]string {
	ports := map[string]string{}
	for line := range strings.Lines(a.h.sh("ip -o link show master br0")) {
		name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		_, address, _ := strings.Cut(line, "link/ether ")
		ports[strings.TrimSuffix(name, ":")] = strings.Fields(address)[0]
	}
	all := map[string]string{"its port's": ports[a.port], "a neighbour's": frames.NeighbourMAC, "nobody's": "02:aa:aa:aa:aa:aa"}
	for port, mac := range ports {
		if port != a.port {
			all["another port's"] = mac
		}
	}
	return all
}

// What of the host a guest reaches is what hostAccess says, and what is beyond the
// host it reaches always.
func TestGuardHostAccess(t *testing.T) {
	for placement, tap := range placements {
		for _, access := range []string{"all", "gateway", "none"} {
			t.Run(placement+" "+access, func(t *testing.T) {
				a := newArena(t, tap, conf{"guard": conf{"hostAccess": access}}, neighbourOf)
				a.h.station("outside", "203.0.113.2/24")
				a.h.sh(`ip address add 203.0.113.1/24 dev outside; ip -n outside route add 10.1.0.0/24 via 203.0.113.1
ip address add 198.51.100.1/32 dev lo; ip address add 2001:db8:1::1/128 dev lo nodad`)
				a.listen("10.1.0.1:53", "10.1.0.1:2222", "[fd00:1::1]:53", "[fd00:1::1]:2222", "198.51.100.1:2222", "[2001:db8:1::1]:2222")
				a.guest.send(frames.Sealed(frames.Out(frames.TypeIPv6, frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoICMPv6,
					frames.ND(135, frames.Gateway6, frames.LinkLayer(1, frames.GuestMAC)))))) // the host is to know where to answer to
				for _, s := range toServices {
					want := access == "all" && s.all || access == "gateway" && s.gateway
					ask := func() bool { return a.answered(s.packet, s.from, s.protocol, s.answer) }
					if got := ask() || want && eventually(ask); got != want { // an address of IPv6 takes a moment
						t.Errorf("%s: answered %v, want %v", s.name, got, want)
					}
				}
				macs := a.strangeMACs()
				first := 50000
				for whose, mac := range macs {
					if a.answersAt(mac, first) {
						t.Errorf("the host answers to %s MAC address, %s", whose, mac)
					}
					first += 20
				}
				beyond := frames.Sealed(frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, "203.0.113.2", frames.ProtoICMP, frames.ICMP(8, frames.Zeros(16)))))
				if !eventually(func() bool {
					a.guest.send(beyond)
					return a.guest.receive(time.Second, func(f []byte) bool {
						return len(f) > 34 && f[23] == 1 && f[34] == 0 && bytes.Equal(f[26:30], []byte{203, 0, 113, 2})
					}) != nil
				}) {
					t.Error("nobody beyond the host answers")
				}
				a.n.holds(a.v)
				// Without a guard the port's own address is the host's, too, and with a tap
				// elsewhere that of other ports; of the latter not to each kernel.
				a.h.sh("tc qdisc del dev " + a.port + " clsact")
				for whose, mac := range macs {
					answers := a.answersAt(mac, first)
					t.Logf("without a guard the host answers to %s MAC address: %v", whose, answers)
					if placement == "host" && answers != (whose == "its port's") {
						t.Errorf("without a guard, and to %s: the host answers %v", whose, answers)
					}
					first += 20
				}
			})
		}
	}
}

// To keep a guest from the host is to know its MAC addresses: a bridge whose address
// follows its ports has none to go by, and one that somebody changes is told of.
func TestGuardHostAccessGoesByMAC(t *testing.T) {
	h := newHost(t)
	h.mine = append(h.mine, "br0", "low", "other")
	h.sh("ip link add br0 type bridge; ip link set br0 up; ip address add 10.1.0.1/16 dev br0")
	closed, v := h.pair(conf{"bridgeMode": "existing", "isGateway": nil, "isDefaultGateway": nil, "guard": conf{"hostAccess": "none"}}), h.vm("vm1")
	_, err := closed.tryAdd(v)
	wantError(t, err, 7, "the MAC address of bridge br0 changes with its ports")
	wantError(t, closed.status(), 50, "the MAC address of bridge br0 changes with its ports")
	closed.remove(v)
	open := h.pair(conf{"bridgeMode": "existing", "isGateway": nil, "isDefaultGateway": nil})
	if err = open.status(); err != nil {
		t.Error(err)
	}
	_, err = closed.tryAdd(v)
	_, remedy, _ := strings.Cut(fmt.Sprint(err), "ip link set br0 address ")
	mac, _, _ := strings.Cut(remedy, " ")
	closed.remove(v)
	h.sh("ip link set br0 address " + mac) // which nothing else does
	if err := closed.status(); err != nil {
		t.Error(err)
	}
	closed.add(v)
	h.sh("ip link add low address 02:00:00:00:00:01 type veth peer name other; ip link set low master br0")
	closed.holds(v)
	h.sh("ip link set br0 address 02:00:00:00:00:02")
	wantError(t, closed.check(v), 102, "via br0 when the host had other MAC addresses ([02:00:00:00:00:02")
	closed.isRepaired(v)
	closed.remove(v)
	h.sh("ip link del low")
}

// A VLAN's gateway takes what is to its bridge, too, whatever its own MAC address is.
func TestGuardHostAccessInAVLAN(t *testing.T) {
	h := newHost(t)
	n := h.inVLAN(5, conf{"guard": conf{"hostAccess": "none"}})
	if !n.tellsApart() {
		return
	}
	h.bridge("br0", "address "+frames.GatewayMAC)
	h.sh("ip link set br0 type bridge vlan_filtering 1")
	first, second := h.vm("vm1"), h.vm("vm2")
	n.add(first)
	h.sh("ip link set br0.5 address 02:00:00:00:00:55")
	port := portOf(n.add(second))
	err := h.do(func() error {
		link, err := net.InterfaceByName(port)
		if err != nil {
			return err
		}
		r, _, err := guard.Observe(link.Index)
		for _, mac := range []string{"02:00:00:00:00:55", frames.GatewayMAC, link.HardwareAddr.String()} {
			if !slices.ContainsFunc(r.HostMACs, func(m net.HardwareAddr) bool { return m.String() == mac }) {
				t.Errorf("the guard knows of the host %v, and not %s", r.HostMACs, mac)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n.remove(second)
	n.remove(first)
}

// A STATUS of a host that is to be closed tells of rules that guards do not know.
func TestStatusOfBridgedNAT(t *testing.T) {
	h := newHost(t)
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		// A kernel without br_netfilter gets what it would tell.
		h.sh(`mkdir /run/net && mount --bind /proc/sys/net /run/net && mount -t tmpfs tmpfs /proc/sys/net
			for at in $(ls /run/net); do mkdir /proc/sys/net/$at && mount --bind /run/net/$at /proc/sys/net/$at || exit 1; done
			mkdir /proc/sys/net/bridge && touch /proc/sys/net/bridge/bridge-nf-call-iptables /proc/sys/net/bridge/bridge-nf-call-ip6tables`)
	} else {
		n := h.pair(conf{"guard": conf{"hostAccess": "none"}})
		v := h.vm("vm1")
		n.add(v)
		h.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0; ip link set br0 type bridge nf_call_ip6tables 1")
		a := h.exec(call{plugin: "microvm-bridge", verb: "STATUS", stdin: n.single(1, nil)})
		if a.exit != 0 || !strings.Contains(a.stderr, ": ip link set br0 type bridge nf_call_ip6tables 0\n") {
			t.Errorf("a bridge that asks for itself: exit %d, %q", a.exit, a.stderr)
		}
		n.remove(v)
	}
	for value, told := range map[string]bool{"0": false, "1": true} {
		h.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=" + value + " net.bridge.bridge-nf-call-ip6tables=0")
		for access, closed := range map[string]bool{"all": false, "none": true} {
			n := h.pair(conf{"guard": conf{"hostAccess": access}})
			a := h.exec(call{plugin: "microvm-bridge", verb: "STATUS", stdin: n.single(1, nil)})
			if says := strings.Contains(a.stderr, "sysctl -w net.bridge.bridge-nf-call-iptables=0\n"); a.exit != 0 || says != (told && closed) {
				t.Errorf("%s, hostAccess %s: exit %d, %q", value, access, a.exit, a.stderr)
			}
		}
	}
}

// A bridge that listens to everything hands every frame to the host's IP, which must
// know that it is not meant: it would forward, or answer, what is for others.
func TestGuardOnAPromiscuousBridge(t *testing.T) {
	for placement, tap := range placements {
		for _, access := range []string{"all", "none"} {
			t.Run(placement+" "+access, func(t *testing.T) {
				a := newArena(t, tap, conf{"promiscMode": true, "guard": conf{"hostAccess": access}}, neighbourOf)
				a.h.sh("ip address add 198.51.100.1/32 dev lo")
				a.listen("198.51.100.1:2222")
				first := 50000
				for whose, mac := range a.strangeMACs() {
					if a.answersAt(mac, first) {
						t.Errorf("the host answers to %s MAC address", whose)
					}
					first += 20
				}
				a.guest.pending()
				a.neighbour.pending()
				a.guest.send(frames.Sealed(frames.Eth(frames.NeighbourMAC, frames.GuestMAC, frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Neighbour4, frames.ProtoTCP, syn(2222)))))
				a.barrier()
				copies := 0
				for _, f := range a.neighbour.pending() {
					if len(f) > 34 && bytes.Equal(f[26:30], []byte{10, 1, 0, 11}) && f[23] == 6 {
						copies++
					}
				}
				if copies != 1 {
					t.Errorf("the neighbour gets %d copies of a frame", copies)
				}
			})
		}
	}
}

// The credentials that a cloud hands to its instances stay with the host.
func TestGuardMetadata(t *testing.T) {
	for placement, tap := range placements {
		for _, open := range []bool{false, true} {
			t.Run(placement+" "+map[bool]string{false: "kept", true: "open"}[open], func(t *testing.T) {
				more := conf{}
				if open {
					more = conf{"guard": conf{"metadata": false}}
				}
				a := newArena(t, tap, more, neighbourOf)
				a.h.sh("ip address add 169.254.169.254/32 dev lo; ip address add fd00:ec2::254/128 dev lo nodad")
				a.listen("169.254.169.254:80", "[fd00:ec2::254]:80")
				a.guest.send(frames.Sealed(frames.Out(frames.TypeIPv6, frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoICMPv6,
					frames.ND(135, frames.Gateway6, frames.LinkLayer(1, frames.GuestMAC))))))
				for service, packet := range map[string][]byte{
					"169.254.169.254/32": frames.IP4(frames.Guest4, "169.254.169.254", frames.ProtoTCP, syn(80)),
					"fd00:ec2::254/128":  frames.IP6(frames.Guest6, "fd00:ec2::254", frames.ProtoTCP, syn(80)),
				} {
					ask := func() bool { return a.answered(packet, service, 6, synAck) }
					if got := ask() || open && eventually(ask); got != open {
						t.Errorf("%s answers: %v, want %v", service, got, open)
					}
				}
			})
		}
	}
}

// A guest reaches its neighbour by way of the gateway, unless it is isolated.
func TestGuardIsolationAtLayer3(t *testing.T) {
	for placement, tap := range placements {
		for name, more := range map[string]conf{"open": {}, "isolate": {"guard": conf{"isolate": true}}, "portIsolation": {"portIsolation": true}} {
			t.Run(placement+" "+name, func(t *testing.T) {
				a := newArena(t, tap, more, neighbourOf)
				a.h.sh("sysctl -qw net.ipv4.conf.br0.send_redirects=0")
				packet := frames.IP4(frames.Guest4, frames.Neighbour4, frames.ProtoTCP, syn(2222))
				a.guest.send(frames.Sealed(frames.Out(frames.TypeIPv4, packet)))
				a.guest.send(frames.Sealed(frames.Eth(frames.NeighbourMAC, frames.GuestMAC, frames.TypeIPv4, packet)))
				a.barrier()
				ways := map[string]int{}
				for _, f := range a.neighbour.pending() {
					if len(f) > 34 && bytes.Equal(f[26:30], []byte{10, 1, 0, 11}) && f[23] == 6 {
						ways[net.HardwareAddr(f[6:12]).String()]++
					}
				}
				want := map[string]int{frames.GuestMAC: 1, frames.GatewayMAC: 1}
				if name != "open" {
					want = map[string]int{}
				}
				for _, way := range []string{frames.GuestMAC, frames.GatewayMAC} {
					if ways[way] != want[way] {
						t.Errorf("%d packets arrived from %s, want %d", ways[way], way, want[way])
					}
				}
			})
		}
	}
}

// A guest does not hear what is for others, though the bridge knows nobody of
// that address.
func TestGuardedGuestHearsItsOwnOnly(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, nil, neighbourOf)
			peer, pull := a.h.peer()
			t.Cleanup(pull)
			a.h.mine = append(a.h.mine, "peer")
			from := func(to string) []byte {
				return frames.Eth(to, "02:00:00:00:00:99", 0x88b5, frames.Zeros(60))
			}
			all := from(frames.Broadcast)
			if !eventually(func() bool {
				peer.write(from("02:00:00:00:00:77"))
				peer.write(from(frames.NeighbourMAC))
				peer.write(all)
				return a.guest.receive(100*time.Millisecond, func(f []byte) bool {
					if f[12] == 0x88 && !bytes.Equal(f, all) {
						t.Errorf("the guest hears a frame to %s", net.HardwareAddr(f[:6]))
					}
					return bytes.Equal(f, all)
				}) != nil
			}) {
				t.Error("the guest hears no broadcast")
			}
		})
	}
}

// Thousands of addresses do not fill the bridge's tables, nor thousands of
// broadcasts the neighbour's ears.
func TestGuardStopsFloods(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			const limit, storm = 50, 1000
			a := newArena(t, tap, conf{"guard": conf{"stormLimit": limit}}, neighbourOf)
			before := a.tables()
			for i := range 2000 {
				src := net.HardwareAddr{2, 0xf, 0, byte(i >> 8), byte(i), 1}.String()
				a.guest.send(frames.Eth([]string{frames.GatewayMAC, "01:80:c2:00:00:00"}[i%2], src, frames.TypeIPv4, frames.Zeros(50)))
			}
			a.barrier()
			if after := a.tables(); after != before {
				t.Errorf("random addresses changed %s", changed(before, after))
			}
			a.neighbour.pending()
			start, heard := time.Now(), 0
			for range storm {
				a.guest.send(frames.OwnARP)
				heard += len(a.neighbour.pending())
			}
			a.barrier()
			heard += len(a.neighbour.pending())
			if most := limit + 1 + int(time.Since(start).Seconds()*limit); heard > most || heard < limit/2 {
				t.Errorf("%d of %d broadcasts arrived, of which %d may", heard, storm, most)
			}
		})
	}
}

// A guest with VLANs is held to itself inside each of them.
func TestGuardOfTrunk(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			probe := newQuietHost(t)
			if !probe.filters() {
				t.Log("this kernel's bridges tell no VLANs apart: tests/kernels has some that do")
				return
			}
			a := newArena(t, tap, conf{"vlanTrunk": []conf{{"id": 7}, {"id": 4094}}}, neighbourOf)
			for _, attempt := range frames.Trunk {
				harm, _ := a.achieved(frames.Sealed(attempt.Frame), [vnetHeader]byte{})
				if attempt.By != "passed" && len(harm) > 0 {
					t.Errorf("%s: %v", attempt.Name, harm)
				}
			}
		})
	}
}
