package plan

import (
	"encoding/json"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func tapConf(t *testing.T, keys string) []byte {
	t.Helper()
	conf := map[string]any{"cniVersion": "1.1.0", "name": "lab", "type": "microvm-tap"}
	if err := json.Unmarshal([]byte("{"+keys+"}"), &conf); err != nil {
		t.Fatalf("%s: %v", keys, err)
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return stdin
}

func TestTapName(t *testing.T) {
	for _, c := range []struct {
		name     string
		args     string
		ownNetns bool
		want     string
	}{
		{"derived", "", false, lab.TapName()},
		{"given", "TAP_NAME=vmtap0", false, "vmtap0"},
		{"own namespace", "", true, "eth0"},
		{"own namespace, given", "TAP_NAME=vmtap0", true, "vmtap0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rt := vm1
			rt.Args = c.args
			p, err := Tap(tapConf(t, ""), rt, c.ownNetns, nobody{})
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := p.Settle(nil, nil)
			if err != nil || s.Links[0].Name != c.want {
				t.Errorf("name is %s, %v, want %s", s.Links[0].Name, err, c.want)
			}
		})
	}
}

func TestWhoMayAttach(t *testing.T) {
	for _, c := range []struct {
		name, keys   string
		owner, group uint32
	}{
		{"nobody said", "", 0, linkspec.NoID},
		{"owner", `"owner":7`, 7, linkspec.NoID},
		{"owner by name", `"owner":"microvm"`, 1000, linkspec.NoID},
		{"group alone", `"group":"kvm"`, linkspec.NoID, 100},
		{"both", `"owner":7,"group":8`, 7, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Tap(tapConf(t, c.keys), vm1, false, nobody{})
			if err != nil {
				t.Fatal(err)
			}
			s, _, _ := p.Settle(nil, nil)
			if tap := s.Links[0]; *tap.Owner != c.owner || *tap.Group != c.group {
				t.Errorf("owner %d and group %d, want %d and %d", *tap.Owner, *tap.Group, c.owner, c.group)
			}
		})
	}
}

// What CHECK holds the tap against is what ADD answered: a runtime need not
// repeat its arguments.
func TestPromiseFollowsPrevResult(t *testing.T) {
	prev := &types100.Result{CNIVersion: "1.1.0", Interfaces: []*types100.Interface{
		{Name: "vmtap0"}, {Name: "vmtap0", Mac: "52:54:00:00:00:01", Sandbox: "vm1"},
	}}
	said, err := json.Marshal(prev)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Tap(tapConf(t, `"prevResult":`+string(said)), vm1, false, nobody{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Promise(nil)
	if err != nil {
		t.Fatal(err)
	}
	if tap := s.Links[0]; tap.Name != "vmtap0" || tap.MAC.String() != "fe:54:00:00:00:01" {
		t.Errorf("declares\n%s", tap)
	}
	for name, broken := range map[string]*types100.Result{
		"no guest":   {CNIVersion: "1.1.0", Interfaces: prev.Interfaces[:1]},
		"no tap":     {CNIVersion: "1.1.0", Interfaces: prev.Interfaces[1:]},
		"no MAC":     {CNIVersion: "1.1.0", Interfaces: []*types100.Interface{{Name: "a"}, {Name: "a", Sandbox: "vm1"}}},
		"other case": {CNIVersion: "1.1.0", Interfaces: []*types100.Interface{{Name: "vmtap0"}, {Name: "vmtap0", Mac: "52:54:00:00:00:01", Sandbox: "vm2"}}},
	} {
		said, err := json.Marshal(broken)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Tap(tapConf(t, `"prevResult":`+string(said)), vm1, false, nobody{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Promise(nil)
		t.Run(name, func(t *testing.T) { wantError(t, err, cnierr.Config, "prevResult names no") })
	}
}

func TestSecondAddIsRefused(t *testing.T) {
	p, err := Tap(tapConf(t, ""), vm1, false, nobody{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Claim(Facts{lab.TapHandle(): tapOf(lab)})
	wantError(t, err, cnierr.Exists, "interface eth0 of container vm1 on network lab exists already")
}

func TestRemovalLooksWhereATapMayBe(t *testing.T) {
	rt := config.Runtime{ContainerID: "vm1", IfName: "eth0", Args: "TAP_NAME=vmtap0"}
	r, err := TapRemoval(tapConf(t, `"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"t9","sandbox":"vm1"}]}`), rt)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Names) != 3 || r.Names[0] != "vmtap0" || r.Names[1] != "t9" || r.Names[2] != "eth0" {
		t.Errorf("names are %v", r.Names)
	}
	b, err := BridgeRemoval([]byte(`{"cniVersion":"1.1.0","name":"lab","type":"microvm-bridge","bridge":"br0","bridgeMode":"existing"}`), rt)
	if err != nil || b.Bridge != "" || !b.Port {
		t.Errorf("removal is %+v, %v: an existing bridge must not be removed", b, err)
	}
}
