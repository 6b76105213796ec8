package chain

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// families are the ranges of host-local that an option is tried with.
var families = map[string][]string{
	"IPv4": {"10.1.0.0/16"}, "IPv6": {"fd00:1::/64"}, "dual stack": {"10.1.0.0/16", "fd00:1::/64"},
}

// attached is a guest that an option is tried on, and its answer.
type attached struct {
	t       *testing.T
	h       *host
	n       *network
	v       vm
	r       *types100.Result
	tap     string
	subnets []string
}

// gateways are the first addresses of the subnets.
func (a *attached) gateways() (list []netip.Addr) {
	for _, s := range a.subnets {
		list = append(list, netip.MustParsePrefix(s).Addr().Next())
	}
	return list
}

// address is the guest's in the family of another one.
func (a *attached) address(like netip.Addr) netip.Addr {
	a.t.Helper()
	for _, ip := range a.r.IPs {
		if own, _ := netip.AddrFromSlice(ip.Address.IP); own.Unmap().Is4() == like.Is4() {
			return own.Unmap()
		}
	}
	a.t.Fatalf("guest has no address like %s", like)
	return netip.Addr{}
}

// mac is the guest's MAC address, as the result has it.
func (a *attached) mac() net.HardwareAddr {
	a.t.Helper()
	mac, err := net.ParseMAC(a.r.Interfaces[len(a.r.Interfaces)-1].Mac)
	if err != nil {
		a.t.Fatal(err)
	}
	return mac
}

// boot starts the guest.
func (a *attached) boot() *guest {
	a.t.Helper()
	return a.h.boot(a.tap, a.mac())
}

// answered fails the test unless the host answers the guest for its gateways,
// or does not.
func (a *attached) answered(g *guest, want bool) {
	a.t.Helper()
	for _, gw := range a.gateways() {
		if own := a.address(gw); want && !g.asks(own, gw) {
			a.t.Errorf("nobody answers %s for gateway %s", own, gw)
		}
		if has := a.h.link("br0").has(gw.String() + "/" + a.bits(gw)); has != want {
			a.t.Errorf("bridge has %s: %v, want %v", gw, has, want)
		}
	}
}

func (a *attached) bits(of netip.Addr) string {
	for _, s := range a.subnets {
		if p := netip.MustParsePrefix(s); p.Contains(of) {
			return strconv.Itoa(p.Bits())
		}
	}
	return ""
}

// second attaches and starts another guest of the network, until the test ends.
func (a *attached) second() *guest {
	a.t.Helper()
	v := a.h.vm("second")
	b := &attached{t: a.t, h: a.h, n: a.n, v: v, r: a.n.add(v), subnets: a.subnets}
	b.tap = v.tapOf(b.r)
	a.t.Cleanup(func() { a.n.remove(v) })
	return b.boot()
}

func (a *attached) routes() (list []string) {
	for _, r := range a.r.Routes {
		list = append(list, r.Dst.String()+" "+r.GW.String())
	}
	return list
}

func isGateway(a *attached) {
	a.answered(a.boot(), true)
	for _, gw := range a.gateways() {
		key := "net.ipv4.ip_forward"
		if gw.Is6() {
			key = "net.ipv6.conf.all.forwarding"
		}
		if on := strings.TrimSpace(a.h.sh("sysctl -n " + key)); on != "1" {
			a.t.Errorf("%s is %s", key, on)
		}
	}
	if len(a.r.Routes) != 0 {
		a.t.Errorf("routes are %v", a.routes())
	}
}

func isDefaultGateway(a *attached) {
	a.answered(a.boot(), true)
	var want []string
	for _, gw := range a.gateways() {
		if gw.Is4() {
			want = append(want, "0.0.0.0/0 "+gw.String())
		} else {
			want = append(want, "::/0 "+gw.String())
		}
	}
	if !slices.Equal(a.routes(), want) {
		a.t.Errorf("routes are %v, want %v", a.routes(), want)
	}
}

// forceAddress finds a bridge with other gateways, see oldGateways.
func forceAddress(a *attached) {
	a.answered(a.boot(), true)
	br := a.h.link("br0")
	for _, s := range a.subnets {
		old := map[bool]string{true: "10.1.0.9/16", false: "fd00:1::9/56"}[netip.MustParsePrefix(s).Addr().Is4()]
		if br.has(old) {
			a.t.Errorf("%s is still there", old)
		}
	}
	if !br.has("fd00:7::1/64") {
		a.t.Error("an IPv6 address that conflicts with nothing is gone")
	}
}

const oldGateways = `ip address add 10.1.0.9/16 dev br0
ip address add fd00:1::9/56 dev br0 nodad; ip address add fd00:7::1/64 dev br0 nodad`

func mtu(a *attached) {
	if br, tap := a.h.link("br0"), a.h.link(a.tap); br.MTU != 1400 || tap.MTU != 1400 {
		a.t.Errorf("MTU of the bridge is %d, of the tap %d", br.MTU, tap.MTU)
	}
	for _, in := range a.r.Interfaces {
		if in.Mtu != 1400 {
			a.t.Errorf("result gives %s an MTU of %d", in.Name, in.Mtu)
		}
	}
	// A port of more or less does not change the bridge.
	for _, other := range []int{1300, 9000} {
		a.h.sh("ip link add low0 mtu " + strconv.Itoa(other) + " type veth peer name low1 && ip link set low0 master br0 up")
		during := a.h.link("br0").MTU
		a.h.sh("ip link del low0")
		if after := a.h.link("br0").MTU; during != 1400 || after != 1400 {
			a.t.Errorf("with a port of %d the bridge had %d, after it %d", other, during, after)
		}
	}
}

// reflected tells whether a frame that the guest sends comes back to it.
func (a *attached) reflected(g *guest) bool {
	a.t.Helper()
	payload, is := mark("reflected")
	g.send(broadcastMAC, etherTest, payload)
	gw := a.gateways()[0]
	if !g.asks(a.address(gw), gw) { // what came before this answer would be there by now
		a.t.Fatal("the bridge does not forward")
	}
	return g.has(is)
}

func hairpin(a *attached) {
	g := a.boot()
	gw := a.gateways()[0]
	g.asks(a.address(gw), gw) // once the port forwards
	if !a.reflected(g) {
		a.t.Error("a frame did not come back")
	}
}

func noHairpin(a *attached) {
	g := a.boot()
	gw := a.gateways()[0]
	g.asks(a.address(gw), gw)
	if a.reflected(g) {
		a.t.Error("a frame came back")
	}
}

// overheard tells whether the bridge takes a frame that is for another guest.
func (a *attached) overheard() bool {
	a.t.Helper()
	one, two := a.boot(), a.second()
	gw := a.gateways()[0]
	if !one.asks(a.address(gw), gw) || !two.asks(a.address(gw).Next(), gw) { // so that the bridge knows where both are
		a.t.Fatal("the bridge does not forward")
	}
	a.h.sh("nft 'add table netdev seen; add chain netdev seen in { type filter hook ingress device br0 priority 0; }; add rule netdev seen in ether type 0x88b5 counter'")
	payload, is := mark("for another")
	if !two.awaits(is, func() { one.send(two.mac, etherTest, payload) }) {
		a.t.Fatal("the other guest does not hear")
	}
	return !strings.Contains(a.h.sh("nft list table netdev seen"), "packets 0 ")
}

func promisc(a *attached) {
	if !a.overheard() {
		a.t.Error("the bridge does not take a frame for another")
	}
}

func noPromisc(a *attached) {
	if a.overheard() {
		a.t.Error("the bridge takes a frame for another")
	}
}

// apart tells whether two guests hear each other; the gateway hears both.
func (a *attached) apart() bool {
	a.t.Helper()
	one, two := a.boot(), a.second()
	payload, is := mark("to a neighbour")
	for _, gw := range a.gateways() {
		if !one.asks(a.address(gw), gw) || !two.asks(a.address(gw).Next(), gw) {
			a.t.Errorf("a guest does not reach %s", gw)
		}
	}
	two.heard = nil
	one.send(broadcastMAC, etherTest, payload)
	one.send(two.mac, etherTest, payload)
	gw := a.gateways()[0]
	if !two.asks(a.address(gw).Next(), gw) {
		a.t.Errorf("a guest does not reach %s", gw)
	}
	return !two.has(is)
}

func isolation(a *attached) {
	if !a.apart() {
		a.t.Error("guests hear each other")
	}
}

func noIsolation(a *attached) {
	if a.apart() {
		a.t.Error("guests do not hear each other")
	}
}

// probed tells whether the host looks for duplicates of its IPv6 address before
// it answers for it: seen on the wire, and by the address's flag.
func (a *attached) probed() bool {
	a.t.Helper()
	gw := a.gateways()[len(a.subnets)-1]
	g := a.boot()
	if !g.asks(a.address(gw), gw) {
		a.t.Fatalf("nobody answers for %s", gw)
	}
	probe := g.has(func(f []byte) bool { return isND(f, 135, gw) && netip.AddrFrom16([16]byte(f[22:38])).IsUnspecified() })
	flag := !strings.Contains(a.h.sh("ip -6 address show dev br0 to "+gw.String()), "nodad")
	if probe != flag {
		a.t.Errorf("a probe was seen: %v, the address is one to be probed: %v", probe, flag)
	}
	return probe
}

func dad(a *attached) {
	if !a.probed() {
		a.t.Error("no duplicate address detection")
	}
}

func noDAD(a *attached) {
	if a.probed() {
		a.t.Error("duplicate address detection, by which a guest can deny the gateway its address")
	}
}
