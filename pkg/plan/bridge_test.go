package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/result"
)

var lab = attachment.Attachment{Network: "lab", ContainerID: "vm1", IfName: "eth0"}

// tapOf is a tap as microvm-tap leaves it.
func tapOf(a attachment.Attachment) linkspec.Link {
	return linkspec.Link{
		Kind: linkspec.Tap, Name: a.TapName(), AltNames: []string{a.TapHandle()}, MTU: new(1500), Master: new(""),
		Alias: new(attachment.Tag{Attachment: a}.String()), MAC: attachment.TapMAC(a.GuestMAC()),
	}
}

func prevOf(a attachment.Attachment) *types100.Result {
	tap := tapOf(a)
	return result.Build(nil, result.Answer{Tap: tap.Name, GuestMAC: a.GuestMAC(), ContainerID: a.ContainerID},
		map[string]linkspec.Link{tap.Name: tap})
}

func bridgeOf(alias string, mtu int, addrs ...string) linkspec.Link {
	l := linkspec.Link{Kind: linkspec.Bridge, Name: "br0", MTU: &mtu, Alias: &alias, Up: new(true)}
	for _, a := range addrs {
		l.Addresses = append(l.Addresses, linkspec.Address{Prefix: netip.MustParsePrefix(a)})
	}
	return l
}

// bridgeConf is a configuration of microvm-bridge with the given keys beside
// the usual ones.
func bridgeConf(t *testing.T, keys string) conf {
	t.Helper()
	c := conf{"cniVersion": "1.1.0", "name": "lab", "type": "microvm-bridge", "bridge": "br0"}
	if err := json.Unmarshal([]byte("{"+keys+"}"), &c); err != nil {
		t.Fatalf("%s: %v", keys, err)
	}
	return c
}

const hostLocal = `"ipam":{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/24"}]]}`

func settle(t *testing.T, keys, lease string, facts Facts) (linkspec.State, result.Answer, error) {
	t.Helper()
	p := newPlan(t, bridgeConf(t, keys), prevOf(lab))
	if _, there := facts[lab.TapName()]; !there {
		facts[lab.TapName()] = tapOf(lab)
	}
	if _, err := p.Claim(facts); err != nil {
		return linkspec.State{}, result.Answer{}, err
	}
	return p.Settle(facts, parseLease(t, lease, p.Delegate()))
}

// The IPAM plugin's answer is checked before anything is made of it.
func TestAddressesNobodyCanUse(t *testing.T) {
	for _, c := range []struct{ name, keys, lease, msg string }{
		{"none", hostLocal, `{}`, "returned no address"},
		{"family that nobody asked for", hostLocal, `{"ips":[{"address":"fd00::2/64"}]}`, "of an address family that nobody asked for"},
		{"second family that nobody asked for", hostLocal, `{"ips":[{"address":"10.0.0.2/24"},{"address":"fd00::2/64"}]}`, "of an address family that nobody asked for"},
		{"multicast", hostLocal, `{"ips":[{"address":"224.0.0.1/24"}]}`, "which is no address of a host"},
		{"unspecified", hostLocal, `{"ips":[{"address":"0.0.0.0/24"}]}`, "which is no address of a host"},
		{"loopback", hostLocal, `{"ips":[{"address":"127.0.0.1/8"}]}`, "which is no address of a host"},
		{"gateway outside", hostLocal, `{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.1.1"}]}`, "outside the subnet"},
		{"gateway of the other family", hostLocal, `{"ips":[{"address":"10.0.0.2/24","gateway":"fd00::1"}]}`, "another address family"},
		{"gateway is the guest", hostLocal, `{"ips":[{"address":"10.0.0.1/24","gateway":"10.0.0.1"}]}`, "the gateway's own address"},
		{"derived gateway is the guest", `"isGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.1/24"}]}`, "the gateway's own address"},
		{"host prefix and a gateway to be", `"isGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.2/32","gateway":"10.0.0.1"}]}`, "outside the subnet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := settle(t, c.keys, c.lease, Facts{})
			wantError(t, err, cnierr.Delegate, `IPAM plugin "host-local"`)
			wantError(t, err, cnierr.Delegate, c.msg)
		})
	}
}

func wantError(t *testing.T, err error, code cnierr.Code, msg string) {
	t.Helper()
	var e *cnierr.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want one with code %d", err, code)
	}
	if e.Code != code || !strings.Contains(e.Msg, msg) || e.Details == "" {
		t.Errorf("error is %d %q (%q), want %d and %q, and details", e.Code, e.Msg, e.Details, code, msg)
	}
}

func TestGateways(t *testing.T) {
	for _, c := range []struct {
		name, keys, lease string
		addrs             string // on the bridge
		gateways, routes  string // of the guest
	}{
		{"as IPAM says", `"isGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.254"}]}`, "[10.0.0.254/24]", "[10.0.0.254]", "[]"},
		{"derived", `"isGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.2/24"}]}`, "[10.0.0.1/24]", "[10.0.0.1]", "[]"},
		{"not the host", hostLocal, `{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.9"}]}`, "[]", "[10.0.0.9]", "[]"},
		{"on-link host prefix", hostLocal, `{"ips":[{"address":"10.0.0.2/32","gateway":"10.9.9.9"}]}`, "[]", "[10.9.9.9]", "[]"},
		{"default route", `"isDefaultGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.2/24"}]}`, "[10.0.0.1/24]", "[10.0.0.1]", "[0.0.0.0/0 via 10.0.0.1]"},
		{"default route is there", `"isDefaultGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.2/24"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.7"}]}`, "[10.0.0.1/24]", "[10.0.0.1]", "[0.0.0.0/0 via 10.0.0.7]"},
		{"two families", `"isDefaultGateway":true,"ipam":{"type":"x"}`, `{"ips":[{"address":"10.0.0.2/24"},{"address":"fd00::2/64"}]}`, "[10.0.0.1/24 fd00::1/64]", "[10.0.0.1 fd00::1]", "[0.0.0.0/0 via 10.0.0.1 ::/0 via fd00::1]"},
		{"default route without a gateway is there", `"isDefaultGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.2/24"}],"routes":[{"dst":"0.0.0.0/0"}]}`, "[10.0.0.1/24]", "[10.0.0.1]", "[0.0.0.0/0 via 10.0.0.1]"},
		{"link-local gateway", `"isGateway":true,"ipam":{"type":"x"}`, `{"ips":[{"address":"fd00::2/64","gateway":"fe80::1"}]}`, "[fe80::1/64]", "[fe80::1]", "[]"},
		{"two addresses of one subnet", `"isGateway":true,` + hostLocal, `{"ips":[{"address":"10.0.0.2/24"},{"address":"10.0.0.3/24"}]}`, "[10.0.0.1/24]", "[10.0.0.1 10.0.0.1]", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, a, err := settle(t, c.keys, c.lease, Facts{"br0": bridgeOf(attachment.BridgeTag, 1500)})
			if err != nil {
				t.Fatal(err)
			}
			addrs, gateways, routes := []netip.Prefix{}, []net.IP{}, []string{}
			for _, addr := range s.Links[0].Addresses {
				addrs = append(addrs, addr.Prefix)
				if !addr.NoDAD {
					t.Errorf("a guest could deny %s by duplicate address detection", addr.Prefix)
				}
			}
			for _, ip := range a.IPs {
				gateways = append(gateways, ip.Gateway)
			}
			for _, r := range a.Routes {
				routes = append(routes, fmt.Sprintf("%s via %s", r.Dst.String(), r.GW))
			}
			if got := fmt.Sprint(addrs); got != c.addrs {
				t.Errorf("addresses on the bridge are %s, want %s", got, c.addrs)
			}
			if got := fmt.Sprint(gateways); got != c.gateways {
				t.Errorf("gateways are %s, want %s", got, c.gateways)
			}
			if got := fmt.Sprint(routes); got != c.routes {
				t.Errorf("routes are %s, want %s", got, c.routes)
			}
			if forwards := len(s.Sysctls) > 0; forwards != (c.addrs != "[]") {
				t.Errorf("sysctls are %v with addresses %s", s.Sysctls, c.addrs)
			}
		})
	}
}

// What stands against the configuration is refused before anything is made.
func TestRefusals(t *testing.T) {
	const lease = `{"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"}]}`
	held, other := tapOf(lab), attachment.Attachment{Network: "lan", ContainerID: "vm9", IfName: "eth0"}
	held.AltNames = append(held.AltNames, other.PortHandle())
	port := tapOf(lab)
	port.Master = new("br7")
	fixed := tapOf(lab)
	fixed.Alias = new(attachment.Tag{Attachment: lab, MTU: 9000}.String())
	twin := tapOf(lab)
	twin.MAC = lab.GuestMAC()
	for _, c := range []struct {
		name  string
		keys  string
		facts Facts
		code  cnierr.Code
		msg   string
	}{
		{"no such bridge", `"bridgeMode":"existing"`, Facts{}, cnierr.Config, "bridge br0 does not exist"},
		{"no bridge", hostLocal, Facts{"br0": {Kind: "dummy", Name: "br0"}}, cnierr.Config, "br0 is not a bridge but a dummy device"},
		{"other MTU", `"mtu":9000`, Facts{"br0": bridgeOf(attachment.BridgeTag, 1500)}, cnierr.Config, "has an MTU of 1500, not of 9000"},
		{"other MTU, somebody's bridge", `"mtu":9000`, Facts{"br0": bridgeOf("", 1500)}, cnierr.Config, "has an MTU of 1500, not of 9000"},
		{"tap larger than bridge", ``, Facts{lab.TapName(): fixed}, cnierr.Config, "is more than the 1500 of bridge br0"},
		{"tap larger than existing bridge", `"bridgeMode":"existing","mtu":9000`, Facts{"br0": bridgeOf("", 1500)}, cnierr.Config, "is more than the 1500 of bridge br0"},
		{"other gateway", `"isGateway":true,` + hostLocal, Facts{"br0": bridgeOf(attachment.BridgeTag, 1500, "10.1.0.1/24")}, cnierr.Config, "has the address 10.1.0.1/24 already"},
		{"other prefix of the gateway", `"isGateway":true,` + hostLocal, Facts{"br0": bridgeOf(attachment.BridgeTag, 1500, "10.0.0.1/16")}, cnierr.Config, "has the address 10.0.0.1/16 already"},
		{"live attachment", hostLocal, Facts{lab.PortHandle(): tapOf(lab)}, cnierr.Exists, "exists already"},
		{"tap is a port", hostLocal, Facts{lab.TapName(): port}, cnierr.Exists, "is a port of br7 already"},
		{"tap is held", hostLocal, Facts{lab.TapName(): held}, cnierr.Exists, "is held for another attachment"},
		{"tap has the guest's MAC", hostLocal, Facts{lab.TapName(): twin}, cnierr.Config, "is that of tap"},
		{"tap has the bridge's name", `"bridge":"` + lab.TapName() + `",` + hostLocal, Facts{}, cnierr.Config, "tap " + lab.TapName() + " has the name of the bridge"},
		{"tap is gone", hostLocal, Facts{lab.TapName(): {Kind: "veth", Name: lab.TapName()}}, cnierr.Config, "names no tap device that exists on the host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := settle(t, c.keys, lease, c.facts)
			wantError(t, err, c.code, c.msg)
		})
	}
}

func TestIPv6NeedsAnMTU(t *testing.T) {
	_, _, err := settle(t, `"isGateway":true,"mtu":1000,"ipam":{"type":"x"}`, `{"ips":[{"address":"fd00::2/64"}]}`, Facts{})
	wantError(t, err, cnierr.Config, "IPv6 needs an MTU of 1280")
}

func TestForceAddressRemovesOnlyWhatStandsAgainst(t *testing.T) {
	facts := Facts{"br0": bridgeOf(attachment.BridgeTag, 1500, "10.1.0.1/24", "fd00:1::1/64", "fd00::9/64", "fe80::1/64")}
	s, _, err := settle(t, `"isGateway":true,"forceAddress":true,"ipam":{"type":"x"}`,
		`{"ips":[{"address":"10.0.0.2/24"},{"address":"fd00::2/64"}]}`, facts)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Links[0].NoAddresses); got != "[10.1.0.1/24 fd00::9/64]" {
		t.Errorf("removes %s", got)
	}
}

// Somebody else's bridge gets what ADD needs of it, and nothing else.
func TestForeignBridge(t *testing.T) {
	for _, c := range []struct {
		name, keys, want string
	}{
		{"create", `"isGateway":true,` + hostLocal, "shared bridge br0\n    mtu 1400\n    forwarding on\n    inet 10.0.0.1/24\n    up on\n"},
		{"create, promiscuous", `"promiscMode":true`, "shared bridge br0\n    mtu 1400\n    promisc on\n    up on\n"},
		{"existing", `"bridgeMode":"existing"`, "joined bridge br0\n    mtu 1400\n    up on\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, err := settle(t, c.keys, `{"ips":[{"address":"10.0.0.2/24"}]}`, Facts{"br0": bridgeOf("somebody's", 1400)})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Links[0].String(); got != c.want {
				t.Errorf("declares\n%s\nwant\n%s", got, c.want)
			}
			if got := *s.Links[1].MTU; got != 1400 {
				t.Errorf("the tap gets an MTU of %d, want the bridge's", got)
			}
		})
	}
}

// The tap in prevResult may be of another plugin's making.
func TestForeignTap(t *testing.T) {
	foreign := linkspec.Link{Kind: linkspec.Tap, Name: "tap7", MTU: new(1300), Alias: new(""), MAC: net.HardwareAddr{0x0a, 0, 0, 0, 0, 7}}
	second := foreign
	second.Name = "tap8"
	prev := &types100.Result{Interfaces: []*types100.Interface{{Name: "tap7"}, {Name: "tap8"}, {Name: "eth9", Sandbox: "/run/netns/vm1"}}}
	p := newPlan(t, bridgeConf(t, ""), prev)

	if _, err := p.Claim(Facts{"tap7": foreign, "tap8": second}); err == nil {
		t.Error("one of two foreign taps was picked")
	}
	s, a, err := p.Settle(Facts{"tap7": foreign}, nil)
	if err != nil {
		t.Fatal(err)
	}
	port := s.Links[1]
	if port.Name != "tap7" || *port.MTU != 1300 || port.Alias != nil || port.MAC != nil {
		t.Errorf("declares\n%s", port)
	}
	if a.GuestMAC.String() != lab.GuestMAC().String() {
		t.Errorf("the guest's MAC is %s, want the derived one", a.GuestMAC)
	}
}

func TestNoPrevResult(t *testing.T) {
	_, err := newPlan(t, bridgeConf(t, ""), nil).Claim(Facts{})
	wantError(t, err, cnierr.Config, "without prevResult")
}
