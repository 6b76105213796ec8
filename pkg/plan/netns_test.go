package plan

import (
	"net"
	"slices"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const vmmNetns = "/run/netns/vm1" // CNI_NETNS of these tests

// awayOf is a tap in the VMM's namespace, as its plugin leaves it, and that
// plugin's result.
func awayOf(alias string, mtu int) (linkspec.Link, *types100.Result) {
	tap := linkspec.Link{
		Kind: linkspec.Tap, Name: "eth0", Netns: vmmNetns, Alias: &alias, MTU: &mtu, Master: new(""), Splice: new(""),
		MAC: net.HardwareAddr{0xfa, 0, 0, 0, 0, 7},
	}
	return tap, &types100.Result{Interfaces: []*types100.Interface{
		{Name: "eth0", Sandbox: vmmNetns}, {Name: "eth0", Sandbox: "vm1", Mac: "02:00:00:00:00:07"},
	}}
}

func TestAway(t *testing.T) {
	for _, c := range []struct {
		name, alias string
		keys        string
		mtu, want   int
	}{
		{"ours", attachment.Tag{Attachment: lab}.String(), "", 1500, 1400},
		{"ours, of an MTU that was asked for", attachment.Tag{Attachment: lab, MTU: 1300}.String(), "", 1300, 1300},
		{"another plugin's", "", "", 1280, 1280},
		{"another plugin's, with an MTU of ours", "", `"mtu":1400`, 1500, 1400},
	} {
		t.Run(c.name, func(t *testing.T) {
			tap, prev := awayOf(c.alias, c.mtu)
			p := newPlan(t, bridgeConf(t, c.keys), prev)
			facts := Facts{tap.Key(): tap, "br0": bridgeOf(attachment.BridgeTag, 1400)}
			for _, key := range []string{tap.Key(), lab.PortName(), lab.PortHandle()} {
				if !slices.Contains(p.Observe(), key) {
					t.Errorf("%s is not looked at: %q", key, p.Observe())
				}
			}
			claim, err := p.Claim(facts)
			if err != nil {
				t.Fatal(err)
			}
			if port := claim.Links[0]; port.Role != linkspec.Owned || *port.Peer != (linkspec.Place{Netns: vmmNetns, Name: lab.InnerName()}) || port.Up != nil {
				t.Errorf("claims\n%s", port)
			}
			s, _, err := p.Settle(facts, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Links) != 4 {
				t.Fatalf("declares\n%s", s)
			}
			for _, l := range s.Links[1:] {
				if *l.MTU != c.want || *l.IPv6 || *l.AcceptRA || !*l.Up {
					t.Errorf("declares\n%s", l)
				}
			}
			if port := s.Links[3]; port.MAC.String() != "fe:00:00:00:00:07" || port.Guest.String() != "02:00:00:00:00:07" {
				t.Errorf("declares\n%s", port)
			}
		})
	}
}

func TestAwayRefused(t *testing.T) {
	for _, c := range []struct {
		name, keys string
		edit       func(tap *linkspec.Link, f Facts, prev *types100.Result)
		code       cnierr.Code
		msg        string
	}{
		{"spliced already", "", func(tap *linkspec.Link, _ Facts, _ *types100.Result) { tap.Splice = new("mvi-x") }, cnierr.Exists, "spliced to mvi-x already"},
		{"a port in there", "", func(tap *linkspec.Link, _ Facts, _ *types100.Result) { tap.Master = new("br9") }, cnierr.Exists, "port of br9 already"},
		{"a port that was left", "", func(_ *linkspec.Link, f Facts, _ *types100.Result) {
			f[lab.PortName()] = linkspec.Link{Kind: linkspec.Veth, Name: lab.PortName(), Alias: new(attachment.Tag{Attachment: lab}.String())}
		}, cnierr.Exists, "exists already"},
		{"no tap", "", func(tap *linkspec.Link, _ Facts, _ *types100.Result) { tap.Kind = linkspec.Veth }, cnierr.Config, "names no tap device"},
		{"too long an MTU", "", func(tap *linkspec.Link, _ Facts, _ *types100.Result) { tap.MTU = new(9000) }, cnierr.Config, "an MTU of 9000"},
		{"the port's own address", "", func(_ *linkspec.Link, _ Facts, prev *types100.Result) {
			prev.Interfaces[1].Mac = "fe:00:00:00:00:07"
		}, cnierr.Config, "the bridge would keep the guest's frames"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tap, prev := awayOf("", 1500)
			facts := Facts{}
			c.edit(&tap, facts, prev)
			facts[tap.Key()] = tap
			p := newPlan(t, bridgeConf(t, c.keys), prev)
			_, err := p.Claim(facts)
			if err == nil {
				_, _, err = p.Settle(facts, nil)
			}
			wantError(t, err, c.code, c.msg)
		})
	}
}

// In the plugin's own namespace, placement netns is placement host.
func TestAwayInOwnNetns(t *testing.T) {
	p, err := Tap([]byte(`{"cniVersion":"1.1.0","name":"lab","placement":"netns"}`), vm1, true, nobody{})
	if err != nil {
		t.Fatal(err)
	}
	s, a, err := p.Settle(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if tap := s.Links[0]; tap.Netns != "" || tap.Name != vm1.IfName || tap.MAC[0] != 0xfe || a.TapNetns != "" {
		t.Errorf("declares\n%s", tap)
	}
}

// What Claim decides about the shortcut is written on the port, and holds from then on.
func TestShortcut(t *testing.T) {
	foreign := linkspec.Link{Kind: linkspec.Tap, Name: lab.UpperName(), Alias: new("")}
	ours := foreign
	ours.Alias = new(attachment.Tag{Attachment: lab}.String())
	for _, c := range []struct {
		name, keys string
		host       Host
		upper      *linkspec.Link
		shortcut   bool
		msg        string // of the error, "" for none
	}{
		{"can", "", nobody{}, nil, true, ""},
		{"no such devices", "", old{}, nil, false, ""},
		{"name taken, but not needed", "", old{}, &foreign, false, ""},
		{"name taken", "", nobody{}, &foreign, false, "exists already"},
		{"name taken by an earlier ADD", "", nobody{}, &ours, false, "exists already"},
		{"limit to the guest", `"ingressRate":10000000`, nobody{}, nil, false, ""},
		{"limit from the guest", `"egressRate":10000000`, nobody{}, nil, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tap, prev := awayOf("", 1500)
			p, ok := newPlan(t, bridgeConf(t, c.keys), prev).(*bridgePlan)
			if !ok {
				t.Fatal("no plan of a bridge")
			}
			p.host = c.host
			facts := Facts{tap.Key(): tap, "br0": bridgeOf(attachment.BridgeTag, 1500)}
			if c.upper != nil {
				facts[c.upper.Name] = *c.upper
			}
			claim, err := p.Claim(facts)
			if c.msg != "" {
				wantError(t, err, cnierr.Exists, c.msg)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			delete(facts, lab.UpperName())
			observe(facts, claim)
			p.host = nil // is not asked again
			s, _, err := p.Settle(facts, nil)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(s.Links, func(l linkspec.Link) bool { return l.Kind == linkspec.Upper })
			port := s.Links[len(s.Links)-1]
			if (i >= 0) != c.shortcut || (port.Shortcut != nil) != c.shortcut {
				t.Fatalf("declares\n%s", s)
			}
			if tag, _ := attachment.TagOf(port.Alias); tag.Shortcut != c.shortcut {
				t.Errorf("port is\n%s", port)
			}
			if c.shortcut && (*s.Links[i].Lower != linkspec.Place{Netns: vmmNetns, Name: tap.Name} || *port.Shortcut != s.Links[i].Name) {
				t.Errorf("upper device is\n%s", s.Links[i])
			}
		})
	}
}

// old is a host whose kernel has no upper devices.
type old struct{ nobody }

func (old) CanShorten() (bool, error) { return false, nil }
