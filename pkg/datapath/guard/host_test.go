package guard

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// The host of TestHostAccess has the gateway's addresses on its bridge, others
// elsewhere, and the world behind another device.
const hosts = `
	ip link add hub type bridge
	ip link set hub address ` + gatewayMAC + ` up
	ip addr add 10.1.0.1/24 dev hub
	ip addr add fd00:1::1/64 dev hub nodad
	ip link add uplink type veth peer name downlink
	ip link set uplink up
	ip link set downlink up
	ip addr add 198.51.100.1/24 dev uplink
	ip addr add 2001:db8:1::1/64 dev uplink nodad
	ip route add default via 198.51.100.2
	ip route add default via 2001:db8:1::2`

func newRouter(t testing.TB, forwarding string) int {
	t.Helper()
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	for _, line := range strings.Split(hosts, "\n") {
		command(t, line)
	}
	command(t, "sysctl -qw net.ipv4.ip_forward="+forwarding)
	command(t, "sysctl -qw net.ipv6.conf.all.forwarding="+forwarding)
	br, err := net.InterfaceByName("hub")
	if err != nil {
		t.Fatal(err)
	}
	return br.Index
}

func command(t testing.TB, line string) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) == 0 {
		return
	}
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

func hostRules(access linkspec.HostAccess, router int) Rules {
	return with(typical, func(r *Rules) { r.HostAccess, r.Router, r.HostMACs = access, router, macs(gatewayMAC) })
}

// toHost has frames with what they need: the least hostAccess that lets them pass.
var toHost = []struct {
	name     string
	frame    []byte
	gateway  bool // passes with "gateway"
	nobody   bool // passes with "none"
	bridging bool // passes a host that does not forward
}{
	{"arp", ownARP, true, true, true},
	{"neighbour solicitation", out(tIPv6, ip6(guest6, gateway6, pICMPv6, nd(135, gateway6, lladdr(1, guestMAC)))), true, true, true},
	{"MLD report", to6(guestLocal, "ff02::16", pICMPv6, mldReport), true, true, true},
	{"IGMP report", eth("01:00:5e:00:00:fb", guestMAC, tIPv4, ip4(guest4, "224.0.0.251", pIGMP, []byte{0x16}, zeros(7))), true, true, true},
	{"ping", out(tIPv4, ip4(guest4, gateway4, pICMP, icmp(8))), true, false, false},
	{"ping, later fragment", out(tIPv4, ip4f(guest4, gateway4, pICMP, 100, nil, zeros(8))), true, false, false},
	{"ping, v6", out(tIPv6, ip6(guest6, gateway6, pICMPv6, icmp(128))), true, false, false},
	{"ping, v6, later fragment", out(tIPv6, ip6(guest6, gateway6, pFragment, frag(pICMPv6, 100, 0), zeros(8))), true, false, false},
	{"DNS", out(tIPv4, ip4(guest4, gateway4, pUDP, udp(99, 53))), true, false, false},
	{"DNS over TCP", out(tIPv4, ip4(guest4, gateway4, pTCP, tcp(99, 53))), true, false, false},
	{"DNS, v6", out(tIPv6, ip6(guest6, gateway6, pUDP, udp(99, 53))), true, false, false},
	{"DHCP", eth(broadcast, guestMAC, tIPv4, dhcp("0.0.0.0", "255.255.255.255", guestMAC, "0.0.0.0")), true, false, false},
	{"DHCPv6", to6(guestLocal, "ff02::1:2", pUDP, udp(546, 547, []byte{1, 0, 0, 1})), true, false, false},
	{"service", out(tIPv4, ip4(guest4, gateway4, pTCP, tcp(99, 22))), false, false, false},
	{"service, v6", out(tIPv6, ip6(guest6, gateway6, pTCP, tcp(99, 22))), false, false, false},
	{"service, later fragment", out(tIPv4, ip4f(guest4, gateway4, pUDP, 100, nil, zeros(8))), false, false, false},
	{"another address", out(tIPv4, ip4(guest4, "198.51.100.1", pTCP, tcp(99, 22))), false, false, false},
	{"ping of another address", out(tIPv4, ip4(guest4, "198.51.100.1", pICMP, icmp(8))), false, false, false},
	{"another address, v6", out(tIPv6, ip6(guest6, "2001:db8:1::1", pTCP, tcp(99, 22))), false, false, false},
	{"loopback", out(tIPv4, ip4(guest4, "127.0.0.1", pTCP, tcp(99, 22))), false, false, false},
	{"broadcast", eth(broadcast, guestMAC, tIPv4, ip4(guest4, "10.1.0.255", pUDP, udp(99, 22))), false, false, false},
	{"mDNS", eth("33:33:00:00:00:fb", guestMAC, tIPv6, ip6(guestLocal, "ff02::fb", pUDP, udp(5353, 5353))), false, false, false},
	{"the world", out(tIPv4, ip4(guest4, "8.8.8.8", pTCP, tcp(99, 22))), true, true, false},
	{"the world, v6", out(tIPv6, ip6(guest6, "2001:db8:9::1", pTCP, tcp(99, 22))), true, true, false},
	{"neighbour", eth(neighbourMAC, guestMAC, tIPv4, ip4(guest4, neighbour4, pTCP, tcp(99, 22))), true, true, true},
	{"neighbour, v6", eth(neighbourMAC, guestMAC, tIPv6, ip6(guest6, neighbour6, pTCP, tcp(99, 22))), true, true, true},
}

func TestHostAccess(t *testing.T) {
	router := newRouter(t, "1")
	tryHost(t, spec(t), router)
}

func tryHost(t *testing.T, spec *tcbpf.Object, router int) {
	t.Helper()
	all, gateway, none := newMachine(t, spec, hostRules("all", router)), newMachine(t, spec, hostRules("gateway", router)), newMachine(t, spec, hostRules("none", router))
	for _, h := range toHost {
		got := []bool{}
		for _, m := range []*machine{all, gateway, none} {
			passes, why := m.judge(t, h.frame)
			if !passes && why.String() != "host" {
				t.Errorf("%s: stopped by %v", h.name, why)
			}
			got = append(got, passes)
		}
		if want := []bool{true, h.gateway, h.nobody}; !slices.Equal(got, want) {
			t.Errorf("%s: passes with all, gateway, none: %v, want %v", h.name, got, want)
		}
	}
}

// TestHostAccessBridging has a host that forwards nothing but in its bridge.
func TestHostAccessBridging(t *testing.T) {
	m := newMachine(t, spec(t), hostRules("none", newRouter(t, "0")))
	for _, h := range toHost {
		if passes, why := m.judge(t, h.frame); passes != h.bridging {
			t.Errorf("%s: %v", h.name, why)
		}
	}
}
