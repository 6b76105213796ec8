package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/result"
)

var update = flag.Bool("update", false, "write the golden files anew")

var vm1 = config.Runtime{ContainerID: "vm1", Netns: "/run/netns/vm1", IfName: "eth0"}

// conf is the configuration of one plugin.
type conf map[string]any

// text is a key that holds a string, "" if it does not.
func (c conf) text(key string) string {
	s, _ := c[key].(string)
	return s
}

// nobody is a host without users.
type nobody struct{}

func (nobody) User(string) (uint32, error)  { return 1000, nil }
func (nobody) Group(string) (uint32, error) { return 100, nil }

func (nobody) CanShorten() (bool, error) { return true, nil }

// leases are what an IPAM plugin would answer for a conflist.
var leases = map[string]string{
	"host-internal": `{"ips":[{"address":"10.88.0.2/16","gateway":"10.88.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
	"host-limited":  `{"ips":[{"address":"10.92.0.2/16","gateway":"10.92.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
	"host-services": `{"ips":[{"address":"10.90.0.2/16","gateway":"10.90.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`,
	"dual-stack":    `{"ips":[{"address":"10.89.0.2/16","gateway":"10.89.0.1"},{"address":"fd00:89::2/64","gateway":"fd00:89::1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`,
	"host-nat":      `{"ips":[{"address":"10.90.0.2/16","gateway":"10.90.0.1"},{"address":"fd00:90::2/64","gateway":"fd00:90::1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`,
	"firecracker":   `{"ips":[{"address":"10.91.0.2/16","gateway":"10.91.0.1"},{"address":"fd00:91::2/64","gateway":"fd00:91::1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`,
	"talos":         `{"ips":[{"address":"10.5.0.2/24","gateway":"10.5.0.1"}]}`,
	"vlans":         `{"ips":[{"address":"10.100.0.2/16","gateway":"10.100.0.1"},{"address":"fd00:100::2/64","gateway":"fd00:100::1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`,
	"lan-static":    `{"ips":[{"address":"192.168.1.50/24","gateway":"192.168.1.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"192.168.1.1"}]}`,
}

// Every conflist that is shipped, planned from end to end: what ADD declares on
// a host that has nothing but the bridge that an existing one stands for, what
// it answers, and what CHECK then declares. Plugins that are not ours pass on the
// result.
func TestGoldenConflists(t *testing.T) {
	files, err := filepath.Glob("../../conf/*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conflists: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".conflist")
		t.Run(name, func(t *testing.T) { compareGolden(t, name, planConflist(t, file, leases[name])) })
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	golden := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("plan differs from %s (go test -update ./pkg/plan writes it anew); got\n%s", golden, got)
	}
}

func planConflist(t *testing.T, file, lease string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		CNIVersion, Name string
		Plugins          []conf
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	facts := hostOf(list.Plugins)
	var out bytes.Buffer
	var prev *types100.Result
	for _, conf := range list.Plugins {
		conf["name"], conf["cniVersion"] = list.Name, list.CNIVersion
		if !conf.own() {
			out.WriteString("# " + conf.text("type") + " is not ours\n")
			continue
		}
		p := newPlan(t, conf, prev)
		out.WriteString("# " + conf.text("type") + " ADD\n")
		claim, err := p.Claim(facts)
		if err != nil {
			t.Fatal(err)
		}
		observe(facts, claim)
		state, answer, err := p.Settle(facts, parseLease(t, lease, p.Delegate()))
		if err != nil {
			t.Fatal(err)
		}
		if len(claim.Links) > 0 {
			out.WriteString("## claim\n" + claim.String() + "## state\n")
		}
		out.WriteString(state.String())
		observe(facts, state)
		prev = result.Build(prev, answer, facts)
		prev.CNIVersion = list.CNIVersion
	}
	out.WriteString("# result\n")
	if err := result.Print(&out, prev, list.CNIVersion); err != nil {
		t.Fatal(err)
	}
	out.WriteString("\n")
	for _, conf := range list.Plugins {
		if !conf.own() {
			continue
		}
		promise, err := newPlan(t, conf, prev).Promise(facts)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("# " + conf.text("type") + " CHECK\n" + promise.String())
	}
	return out.String()
}

// hostOf is a host with the bridges that the plugins only join, and the uplinks.
func hostOf(plugins []conf) Facts {
	facts := Facts{}
	for _, conf := range plugins {
		if conf["bridgeMode"] == "existing" {
			name := conf.text("bridge")
			facts[name] = linkspec.Link{Kind: linkspec.Bridge, Name: name, MTU: new(1500), Up: new(true), Alias: new("")}
		}
		if name := conf.text("uplink"); name != "" {
			facts[name] = nicOf(name)
		}
	}
	return facts
}

// nicOf is a NIC of the host that nobody uses.
func nicOf(name string) linkspec.Link {
	return linkspec.Link{Name: name, MTU: new(1500), Up: new(false), Alias: new(""), Master: new(""), MAC: net.HardwareAddr{2, 0, 0, 0, 0xee, 1}}
}

// observe plays the kernel: what was declared is what there is.
func observe(facts Facts, s linkspec.State) {
	for _, l := range s.Links {
		if l.Peer != nil { // the other end comes with it
			facts[linkspec.Key(l.Peer.Netns, l.Peer.Name)] = linkspec.Link{Kind: l.Kind, Name: l.Peer.Name, Netns: l.Peer.Netns, MTU: new(1500)}
		}
		got, there := facts[l.Key()]
		change, _ := linkspec.Change(l, got)
		if !there {
			got = l
		}
		if change.Master != nil {
			got.Master = change.Master
		}
		if change.MAC != nil {
			got.MAC = change.MAC
		}
		if got.MTU == nil {
			got.MTU = new(1500)
		}
		if got.MAC == nil {
			got.MAC = net.HardwareAddr{2, 0, 0, 0, 0xbb, 1}
		}
		facts[l.Key()] = got
	}
}

// planners are ours, by type.
var planners = map[string]func([]byte, config.Runtime, bool, Host) (Plan, error){"microvm-tap": Tap, "microvm-bridge": Bridge}

func (c conf) own() bool { return planners[c.text("type")] != nil }

func newPlan(t *testing.T, c conf, prev *types100.Result) Plan {
	t.Helper()
	if prev != nil {
		c["prevResult"] = prev
	}
	stdin, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := planners[c.text("type")](stdin, vm1, false, nobody{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parseLease(t *testing.T, lease string, d *Delegate) *types100.Result {
	t.Helper()
	if d == nil {
		return nil
	}
	var r types100.Result
	if err := json.Unmarshal([]byte(lease), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}
