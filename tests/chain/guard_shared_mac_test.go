package chain

import (
	"bytes"
	"testing"
	"time"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// Guests may have a MAC address in common, as the two of a virtual router (VRRP): a
// frame to it goes to the one that spoke last, and to both before that.
func TestSharedMAC(t *testing.T) {
	const router, address = "00:00:5e:00:01:07", "10.1.0.99"
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, conf{"guard": conf{"macs": []string{router}, "addresses": []string{address}}}, neighbourOf)
			twin := station{"twin", "02:00:00:00:00:14", "10.1.0.14", "fd00:1::14"}
			twinVM, _, twinSide := a.attach(twin)
			a.n.holds(a.v)
			a.n.holds(twinVM)
			to := frames.Sealed(frames.Eth(router, frames.NeighbourMAC, frames.TypeIPv4, frames.IP4(frames.Neighbour4, address, frames.ProtoUDP, frames.UDP(7, 7))))
			speak := frames.Eth(frames.Broadcast, router, frames.TypeARP, frames.ARP(1, router, address, "00:00:00:00:00:00", address))
			arrives := func(at *vmmSide) bool {
				return at.receive(time.Second, func(f []byte) bool { return bytes.Equal(f[:min(len(f), len(to))], to) }) != nil
			}
			stays := func(at *vmmSide) bool {
				return at.receive(50*time.Millisecond, func(f []byte) bool { return bytes.Equal(f[:min(len(f), len(to))], to) }) == nil
			}
			a.neighbour.send(to)
			if !arrives(a.guest) || !arrives(twinSide) {
				t.Error("nobody spoke as the router yet, and not both are asked")
			}
			for range 2 {
				for name, turn := range map[string][2]*vmmSide{"guest": {a.guest, twinSide}, "twin": {twinSide, a.guest}} {
					turn[0].send(speak)
					a.neighbour.send(to)
					if !arrives(turn[0]) || !stays(turn[1]) {
						t.Errorf("%s spoke last, and the frame does not go there, or to the other as well", name)
					}
				}
			}
			// No other MAC address is learned.
			a.guest.send(frames.Eth(frames.Broadcast, frames.NeighbourMAC, frames.TypeARP, frames.ARP(1, frames.NeighbourMAC, frames.Neighbour4, "00:00:00:00:00:00", frames.Gateway4)))
			if !stays(a.guest) {
				t.Error("a frame of a neighbour's arrived")
			}
			a.n.holds(a.v)
			a.n.holds(twinVM)
		})
	}
}
