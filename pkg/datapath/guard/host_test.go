package guard

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// The host of TestHostAccess has the gateway's addresses on its bridge, others
// elsewhere, and the world behind another device.
const hosts = `
	ip link add hub type bridge
	ip link set hub address ` + frames.GatewayMAC + ` up
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
	return frames.With(frames.Typical, func(r *Rules) {
		r.HostAccess, r.Router, r.HostMACs = access, router, frames.MACs(frames.GatewayMAC, frames.PortMAC)
	})
}

func TestHostAccess(t *testing.T) {
	router := newRouter(t, "1")
	tryHost(t, spec(t), router)
}

func tryHost(t *testing.T, spec *tcbpf.Object, router int) {
	t.Helper()
	all, gateway, none := newMachine(t, spec, hostRules("all", router)), newMachine(t, spec, hostRules("gateway", router)), newMachine(t, spec, hostRules("none", router))
	for _, h := range frames.ToHost {
		got := []bool{}
		for _, m := range []*machine{all, gateway, none} {
			passes, why := m.judge(t, h.Frame)
			if !passes && why.String() != "host" {
				t.Errorf("%s: stopped by %v", h.Name, why)
			}
			got = append(got, passes)
		}
		if want := []bool{true, h.Gateway, h.Nobody}; !slices.Equal(got, want) {
			t.Errorf("%s: passes with all, gateway, none: %v, want %v", h.Name, got, want)
		}
	}
}

// TestHostAccessBridging has a host that forwards nothing but in its bridge.
func TestHostAccessBridging(t *testing.T) {
	m := newMachine(t, spec(t), hostRules("none", newRouter(t, "0")))
	for _, h := range frames.ToHost {
		if passes, why := m.judge(t, h.Frame); passes != h.Bridging {
			t.Errorf("%s: %v", h.Name, why)
		}
	}
}
