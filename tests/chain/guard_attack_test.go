package chain

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// situations are configurations that make the rules of the frames.
var situations = []struct {
	name      string
	rules     linkspec.Guard
	more      conf
	neighbour station
}{
	{"as usual", frames.Typical, nil, neighbourOf},
	{"without IPAM", frames.L2, conf{"ipam": nil, "isGateway": nil}, neighbourOf},
	{"isolated", frames.Isolated, conf{"guard": conf{"isolate": true}}, neighbourOf},
	{"own prefixes", frames.Wide, conf{"guard": conf{"addresses": []string{"10.1.0.0/24", "fd00:1::/64"}}}, neighbourOf},
	{"another MAC", frames.LegitimateKnobs[0].Rules, conf{"guard": conf{"macs": []string{frames.NeighbourMAC}}}, other},
	{"VRRP", frames.LegitimateKnobs[4].Rules, conf{"guard": conf{"addresses": []string{"10.1.0.99"}}}, neighbourOf},
	{"metadata", frames.LegitimateKnobs[5].Rules, conf{"guard": conf{"metadata": false}}, neighbourOf},
}

var other = station{"neighbour", "02:00:00:00:00:13", "10.1.0.13", "fd00:1::13"}

// inEach runs try for what is of each situation, in both placements.
func inEach(t *testing.T, attempts []frames.Attempt, try func(a *arena, attempt frames.Attempt)) {
	tried := 0
	for placement, tap := range placements {
		for _, s := range situations {
			mine := slices.DeleteFunc(slices.Clone(attempts), func(at frames.Attempt) bool {
				return !slices.Equal(at.Rules.Texts(), s.rules.Texts())
			})
			if tried += len(mine); len(mine) == 0 {
				continue
			}
			t.Run(placement+" "+s.name, func(t *testing.T) {
				a := newArena(t, tap, s.more, s.neighbour)
				if a.index == 0 {
					t.Fatal("the port has no guard")
				}
				for _, at := range mine {
					t.Run(at.Name, func(t *testing.T) {
						a.t, a.h.t, a.guest.t, a.neighbour.t = t, t, t, t
						try(a, at)
					})
				}
				a.t, a.h.t, a.guest.t, a.neighbour.t = t, t, t, t
				a.n.holds(a.v)
			})
		}
	}
	if tried != 2*len(attempts) {
		t.Errorf("%d of %d attempts were made", tried, 2*len(attempts))
	}
}

// stopped fails the test if the frame brings anything about.
func stopped(a *arena, at frames.Attempt) {
	a.t.Helper()
	if harm, _ := a.achieved(frames.Sealed(at.Frame), [vnetHeader]byte{}); len(harm) > 0 {
		a.t.Errorf("%s", strings.Join(harm, ", "))
	}
}

// group are the attacks whose names begin so.
func group(prefixes ...string) (all []frames.Attempt) {
	for _, at := range frames.Attacks {
		if name, _, _ := strings.Cut(at.Name, "/"); slices.Contains(prefixes, name) {
			all = append(all, at)
		}
	}
	return all
}

func TestGuardStopsASpoofedMAC(t *testing.T) { inEach(t, group("mac"), stopped) }
func TestGuardStopsARP(t *testing.T)         { inEach(t, group("arp"), stopped) }
func TestGuardStopsIPv4(t *testing.T)        { inEach(t, group("ip4"), stopped) }
func TestGuardStopsIPv6(t *testing.T)        { inEach(t, group("ip6", "nd"), stopped) }
func TestGuardStopsDHCP(t *testing.T)        { inEach(t, group("dhcp"), stopped) }
func TestGuardStopsL2(t *testing.T)          { inEach(t, group("l2"), stopped) }
func TestGuardStopsReach(t *testing.T)       { inEach(t, group("reach"), stopped) }

// All of them once more, as segments that the kernel is to split: TCP over IPv4
// and IPv6, and UDP, into datagrams and into fragments.
func TestGuardStopsGSO(t *testing.T) {
	var sent atomic.Int64
	inEach(t, frames.Attacks, func(a *arena, at frames.Attempt) {
		for _, h := range segments {
			harm, refused := a.achieved(frames.Sealed(at.Frame), h)
			if !refused {
				sent.Add(1)
			}
			if len(harm) > 0 {
				a.t.Errorf("GSO type %d: %s", h[1], strings.Join(harm, ", "))
			}
		}
	})
	t.Cleanup(func() {
		if n := sent.Load(); n < int64(len(frames.Attacks)) {
			t.Errorf("only %d frames could be sent", n)
		}
	})
}

// A datagram that the kernel is to cut into fragments (UFO) may be a fragment already,
// and not the first, whose payload is nobody's business. The kernel makes a first one of it.
func TestGuardStopsFragmentsAsSegments(t *testing.T) {
	reply := frames.Cat([]byte{2, 1, 6}, frames.Zeros(25), frames.MAC(frames.NeighbourMAC), frames.Zeros(202), []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 2, 255})
	request := frames.Cat([]byte{1, 1, 6}, frames.Zeros(25), frames.MAC("02:de:ad:00:00:01"), frames.Zeros(202), []byte{0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255})
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, nil, neighbourOf)
			sent := 0
			for _, c := range []struct{ what, mac, ip string }{
				{"rogue server", frames.NeighbourMAC, frames.Neighbour4}, {"rogue server to all", frames.Broadcast, "255.255.255.255"}, {"starvation", frames.Broadcast, "255.255.255.255"},
			} {
				datagram := frames.UDP(67, 68, reply, frames.Zeros(256))
				if c.what == "starvation" {
					datagram = frames.UDP(68, 67, request, frames.Zeros(256))
				}
				for _, at := range []int{100, 0x2000 | 100, 1} {
					f := frames.Sealed(frames.Eth(c.mac, frames.GuestMAC, frames.TypeIPv4, frames.IP4f(frames.Guest4, c.ip, frames.ProtoUDP, at, nil, datagram)))
					for _, flags := range []byte{0, 1} {
						h := segment(3, 34, 6)
						h[0] = flags
						harm, refused := a.achieved(f, h)
						if !refused {
							sent++
						}
						if len(harm) > 0 {
							t.Errorf("%s, fragment %#x, flags %d: %s", c.what, at, flags, strings.Join(harm, ", "))
						}
					}
				}
			}
			if sent == 0 {
				t.Error("the kernel took none of the frames")
			}
		})
	}
}

var segments = [][vnetHeader]byte{segment(1, 34, 16), segment(4, 54, 16), segment(5, 34, 6), segment(3, 34, 6)}

// segment is struct virtio_net_hdr: the type, where the checksum is to begin, and
// at which offset from there it goes.
func segment(kind byte, start, at int) [vnetHeader]byte {
	h := [vnetHeader]byte{0: 1, 1: kind}
	binary.NativeEndian.PutUint16(h[2:], uint16(start+20))
	binary.NativeEndian.PutUint16(h[4:], 100)
	binary.NativeEndian.PutUint16(h[6:], uint16(start))
	binary.NativeEndian.PutUint16(h[8:], uint16(at))
	return h
}

// withHeader says of a long frame that it is a segment: before 5.12 no other may be
// longer than the MTU of a port whose tap is elsewhere.
func withHeader(f []byte) []byte {
	var header [vnetHeader]byte
	if len(f) > 1514 {
		header = segments[map[byte]int{4: 0, 6: 1}[f[14]>>4]]
	}
	return frames.Cat(header[:], f)
}

// TestGuardPasses has all that must pass arrive where it is sent to.
func TestGuardPasses(t *testing.T) {
	inEach(t, frames.Legitimate, func(a *arena, at frames.Attempt) {
		f := frames.Sealed(at.Frame)
		a.neighbour.pending()
		if _, err := a.guest.fd.Write(withHeader(f)); err != nil {
			a.t.Fatal(err)
		}
		if bytes.Equal(f[:6], a.neighbour.mac) {
			if a.neighbour.receive(10*time.Second, func(got []byte) bool { return bytes.Equal(got, f) }) == nil {
				a.t.Error("the neighbour does not get it")
			}
			return
		}
		if !slices.ContainsFunc(a.barrier(), func(got []byte) bool { return bytes.Equal(got, f) }) {
			a.t.Error("the host does not get it")
		}
	})
}

// A bridge lets segments through, whatever they are cut into: without the guard frames
// longer than its MTU come out. Linux before 5.12 has no program ask for the MTU.
func TestGuardStopsLongSegments(t *testing.T) {
	long := segment(1, 34, 16)
	binary.NativeEndian.PutUint16(long[4:], 9000)
	frame := frames.Sealed(frames.Eth(frames.NeighbourMAC, frames.GuestMAC, frames.TypeIPv4,
		frames.IP4(frames.Guest4, frames.Neighbour4, frames.ProtoTCP, frames.TCP(1, 2), frames.Zeros(40000))))
	for placement, tap := range placements {
		for guarded, more := range map[bool]conf{false: unguarded, true: nil} {
			t.Run(placement+map[bool]string{false: " without guard"}[guarded], func(t *testing.T) {
				a := newArena(t, tap, more, neighbourOf)
				arrives := !guarded || !tcbpf.KernelAtLeast(5, 12)
				if harm, refused := a.achieved(frame, long); (len(harm) > 0) != arrives || refused {
					t.Errorf("%v (refused: %v)", harm, refused)
				}
			})
		}
	}
}

// An ICMP error about a packet that was not the guest's sets the host's way to others
// for one with a small MTU: it does without the guard, and not with it.
func TestGuardKeepsTheWaysMTU(t *testing.T) {
	quoted := map[string][]byte{
		frames.Neighbour4: frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoICMP, []byte{3, 4, 0, 0, 0, 0, 2, 40},
			frames.IP4(frames.Gateway4, frames.Neighbour4, frames.ProtoICMP, frames.ICMP(0)))), // the kernel takes an answer of its own without asking whose it was
		frames.Neighbour6: frames.Out(frames.TypeIPv6, frames.IP6(frames.Guest6, frames.Gateway6, frames.ProtoICMPv6, []byte{2, 0, 0, 0, 0, 0, 5, 0},
			frames.IP6(frames.Gateway6, frames.Neighbour6, frames.ProtoICMPv6, frames.ICMP(128)))),
	}
	for placement, tap := range placements {
		for guarded, more := range map[bool]conf{false: unguarded, true: nil} {
			t.Run(placement+map[bool]string{false: " without guard"}[guarded], func(t *testing.T) {
				a := newArena(t, tap, more, neighbourOf)
				for to, frame := range quoted {
					small := func() bool { return strings.Contains(a.h.sh("ip route get "+to), "mtu") }
					if small() {
						t.Fatalf("the way to %s has an MTU already", to)
					}
					a.achieved(frames.Sealed(frame), [vnetHeader]byte{})
					if small() == guarded {
						t.Errorf("%s: %s", to, a.h.sh("ip route get "+to))
					}
				}
			})
		}
	}
}
