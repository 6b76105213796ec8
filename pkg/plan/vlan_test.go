package plan

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const (
	inVLAN = `"isGateway":true,"vlan":100,` + hostLocal
	lease  = `{"ips":[{"address":"10.0.0.2/24"}]}`
)

// filtering is a bridge that tells VLANs apart, in these itself.
func filtering(alias string, vlans ...linkspec.VLAN) linkspec.Link {
	l := bridgeOf(alias, 1500)
	l.VLANFiltering, l.DefaultPVID, l.VLANs = new(true), 1, vlans
	return l
}

// gatewayOf is the gateway that an earlier ADD made.
func gatewayOf(alias, parent string, id int) linkspec.Link {
	return linkspec.Link{Kind: linkspec.VLANDevice, Name: "br0.100", Alias: &alias, Parent: &parent, VLANID: &id}
}

// Where the gateway goes, by what is found.
func TestVLANGateway(t *testing.T) {
	own := linkspec.VLAN{ID: 1, PVID: true, Untagged: true}
	for _, c := range []struct {
		name, keys string
		facts      Facts
		on         string // the device with the gateway's address
		devices    int
	}{
		{"no bridge", inVLAN, Facts{}, "br0.100", 3},
		{"our bridge", inVLAN, Facts{"br0": filtering(attachment.BridgeTag, own)}, "br0.100", 3},
		{"somebody's bridge", inVLAN, Facts{"br0": filtering("", own)}, "br0.100", 3},
		{"gateway is there", inVLAN, Facts{"br0": filtering("", own), "br0.100": gatewayOf(attachment.GatewayTag, "br0", 100)}, "br0.100", 3},
		{"bridge that learns", inVLAN, Facts{"br0": func() linkspec.Link {
			l := filtering(attachment.BridgeTag)
			l.VLANFiltering = new(false)
			return l
		}()}, "br0.100", 3},
		{"the bridge's own VLAN", inVLAN, Facts{"br0": filtering("", linkspec.VLAN{ID: 100, PVID: true, Untagged: true})}, "br0", 2},
		{"the default VLAN", strings.Replace(inVLAN, "100", "1", 1), Facts{}, "br0", 2},
		{"no VLAN", `"isGateway":true,` + hostLocal, Facts{"br0": filtering("", own)}, "br0", 2},
		{"trunk only", `"isGateway":true,"vlanTrunk":[{"id":100}],` + hostLocal, Facts{}, "br0", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, err := settle(t, c.keys, lease, c.facts)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Links) != c.devices {
				t.Errorf("state is\n%v", s)
			}
			for _, l := range s.Links {
				if (l.Name == c.on) != (len(l.Addresses) > 0) {
					t.Errorf("addresses of %s are %v", l.Name, l.Addresses)
				}
			}
		})
	}
}

func TestVLANRefused(t *testing.T) {
	off := filtering("")
	off.VLANFiltering = new(false)
	taken := filtering("")
	for _, c := range []struct {
		name  string
		facts Facts
		code  cnierr.Code
		msg   string
	}{
		{"somebody's bridge does not filter", Facts{"br0": off}, cnierr.Config, "br0 does not tell VLANs apart"},
		{"bridge is half in it", Facts{"br0": filtering("", linkspec.VLAN{ID: 100, Untagged: true})}, cnierr.Config, "itself is in VLAN 100"},
		{"somebody's device", Facts{"br0": taken, "br0.100": gatewayOf("", "br0", 100)}, cnierr.Exists, "somebody else's vlan device"},
		{"on another bridge", Facts{"br0": taken, "br0.100": gatewayOf(attachment.GatewayTag, "br1", 100)}, cnierr.Exists, "br0.100"},
		{"in another VLAN", Facts{"br0": taken, "br0.100": gatewayOf(attachment.GatewayTag, "br0", 7)}, cnierr.Exists, "br0.100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := settle(t, inVLAN, lease, c.facts)
			wantError(t, err, c.code, c.msg)
		})
	}
	mine := filtering(attachment.BridgeTag)
	mine.VLANFiltering = new(false)
	_, _, err := settle(t, `"bridgeMode":"existing","vlan":100`, "", Facts{"br0": mine})
	wantError(t, err, cnierr.Config, "br0 does not tell VLANs apart")
}

// The default VLAN of somebody's bridge need not be 1, nor need there be one.
func TestVLANPreserved(t *testing.T) {
	for _, c := range []struct {
		pvid int
		want []linkspec.VLAN
	}{
		{0, []linkspec.VLAN{{ID: 100, PVID: true, Untagged: true}}},
		{1, []linkspec.VLAN{{ID: 1, Untagged: true}, {ID: 100, PVID: true, Untagged: true}}},
		{200, []linkspec.VLAN{{ID: 100, PVID: true, Untagged: true}, {ID: 200, Untagged: true}}},
		{100, []linkspec.VLAN{{ID: 100, PVID: true, Untagged: true}}},
	} {
		bridge := filtering("")
		bridge.DefaultPVID = c.pvid
		s, _, err := settle(t, `"vlan":100,"preserveDefaultVlan":true`, "", Facts{"br0": bridge})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Links[1].VLANs; !slices.Equal(got, c.want) {
			t.Errorf("default VLAN %d: VLANs are %v, want %v", c.pvid, got, c.want)
		}
	}
}

// STATUS holds a foreign address against the device that the gateway would be on.
func TestVLANGatewayFits(t *testing.T) {
	own := linkspec.VLAN{ID: 1, PVID: true, Untagged: true}
	addressed := func(l linkspec.Link) linkspec.Link {
		l.Addresses = []linkspec.Address{{Prefix: netip.MustParsePrefix("10.77.0.1/24")}}
		return l
	}
	native := filtering("", linkspec.VLAN{ID: 100, PVID: true, Untagged: true})
	for _, c := range []struct {
		name  string
		facts Facts
		code  cnierr.Code // 0: it fits
		msg   string
	}{
		{"nothing", Facts{}, 0, ""},
		{"bridge", Facts{"br0": addressed(filtering("", own))}, 0, ""},
		{"bridge in the VLAN", Facts{"br0": addressed(native)}, cnierr.Config, "bridge br0 has the address 10.77.0.1/24 already, which stands against a gateway in 10.0.0.0/24"},
		{"somebody's device", Facts{"br0": filtering("", own), "br0.100": gatewayOf("", "br0", 100)}, cnierr.Exists, "br0.100, where the gateway of VLAN 100 of bridge br0 would be, is somebody else's vlan device"},
		{"device", Facts{"br0": filtering("", own), "br0.100": addressed(gatewayOf(attachment.GatewayTag, "br0", 100))}, cnierr.Config, "br0.100 has the address 10.77.0.1/24 already"},
	} {
		stdin, err := json.Marshal(bridgeConf(t, inVLAN))
		if err != nil {
			t.Fatal(err)
		}
		needs, err := BridgeNeeds(stdin, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"br0", "br0.100"}; !slices.Equal(needs.Observe, want) {
			t.Errorf("looks at %v, want %v", needs.Observe, want)
		}
		if err = needs.Fits(c.facts); c.code == 0 && err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if c.code != 0 {
			wantError(t, err, c.code, c.msg)
		}
	}
}
