// Package vlan boots real guests in VLANs of one bridge. It has a folder of its
// own because tests/kernels boots it inside an emulated host, where each guest
// takes a minute.
package vlan

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/sandbox"
	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// vmm is the user that QEMU runs as.
const vmm = 61000

// modules are what a guest needs for tags of its own, in the order of loading.
var modules = []string{"net/llc/llc", "net/802/stp", "net/802/garp", "net/802/mrp", "net/8021q/8021q"}

// lab is a host, and what the plugins are on it.
type lab struct {
	*sandbox.Host
	t   *testing.T
	bin string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{Host: sandbox.NewHost(t), t: t, bin: t.TempDir()}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", l.bin+"/", "../../plugins/...",
		"github.com/containernetworking/cni/cnitool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, keys := range map[string]string{
		"hundred": `"vlan": 100`,
		"two":     `"vlan": 200`,
		"trunk":   `"vlan": 200, "vlanTrunk": [{"id": 100}]`,
	} {
		conflist := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "plugins": [{"type": "microvm-tap", "owner": %d},
			{"type": "microvm-bridge", "bridge": "br0", %s}]}`, name, vmm, keys)
		if err := os.WriteFile(filepath.Join(l.bin, name+".conflist"), []byte(conflist), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// run runs a program on the host.
func (l *lab) run(program string, args ...string) (string, error) {
	l.t.Helper()
	var out []byte
	var err error
	l.Do(func() {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "CNI_PATH="+l.bin, "NETCONFPATH="+l.bin)
		out, err = cmd.CombinedOutput()
	})
	return string(out), err
}

func (l *lab) cnitool(args ...string) string {
	l.t.Helper()
	out, err := l.run(filepath.Join(l.bin, "cnitool"), args...)
	if err != nil {
		l.t.Fatalf("cnitool %v: %v\n%s", args, err, out)
	}
	return out
}

// filters tells whether the host's kernel knows VLANs on bridges.
func (l *lab) filters() bool {
	l.t.Helper()
	_, err := l.run("ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1")
	if err != nil {
		return false
	}
	if out, err := l.run("ip", "link", "del", "probe"); err != nil {
		l.t.Fatalf("delete bridge: %v\n%s", err, out)
	}
	return true
}

// attach adds a guest to a network, and boots it with these addresses.
func (l *lab) attach(network string, files map[string]string, script string, addresses ...string) *guest.Guest {
	l.t.Helper()
	netns := l.NewNetns(network)
	var result struct {
		Interfaces []struct{ Name, Mac, Sandbox string }
	}
	if out := l.cnitool("add", network, netns); json.Unmarshal([]byte(out), &result) != nil || len(result.Interfaces) < 3 {
		l.t.Fatalf("cnitool add %s: %s", network, out)
	}
	l.cnitool("check", network, netns)
	nic := result.Interfaces[2]
	script = "set -e\nfor i in default eth0; do echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad; done\nip link set eth0 up\n" + script
	for _, a := range addresses {
		script += "ip address add " + a + "\n"
	}
	l.t.Cleanup(func() { l.cnitool("del", network, netns) })
	return guest.Boot(l.t, guest.Config{
		UID: vmm, GID: vmm, Netns: l.Outside(), Script: script, Files: files,
		NICs: []guest.NIC{{Tap: nic.Name, MAC: nic.Mac}},
	})
}

// tagging returns what a guest needs to use tags, and the script that makes
// eth0.100: nothing on a host with another kernel than the guest's.
func tagging(t *testing.T) (files map[string]string, script string) {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for _, m := range modules {
		path := filepath.Join("/lib/modules", unix.ByteSliceToString(uts.Release[:]), "kernel", m+".ko")
		if _, err := os.Stat(path); err != nil {
			return nil, ""
		}
		name := "/tags/" + filepath.Base(path)
		files[name] = path
		script += "insmod " + name + "\n"
	}
	if script != "" {
		// The guest's kernel is that of Debian 12: on another the modules do not load.
		script = "if [ \"$(uname -r)\" = " + unix.ByteSliceToString(uts.Release[:]) + " ]; then\n" + script +
			"ip link add link eth0 name eth0.100 type vlan id 100\nip link set eth0.100 up\n" +
			"ip address add 10.7.1.3/24 dev eth0.100\nip address add fd00:7:1::3/64 dev eth0.100\nfi\n"
	}
	return files, script
}

// Two guests in different VLANs of a bridge do not reach each other, two in one
// do, and a trunk's guest gets its other VLAN with tags. All addresses are of one
// subnet: nothing else sets the guests apart.
func TestGuestsInVLANs(t *testing.T) {
	l := newLab(t)
	if !l.filters() {
		out, err := l.run(filepath.Join(l.bin, "cnitool"), "add", "hundred", l.NewNetns("hundred"))
		if err == nil || !strings.Contains(out, "CONFIG_BRIDGE_VLAN_FILTERING") {
			t.Errorf("cnitool add: %v, want an error about the kernel\n%s", err, out)
		}
		l.cnitool("del", "hundred", "/run/netns/hundred")
		return
	}
	files, script := tagging(t)
	a := l.attach("hundred", nil, "", "10.7.0.1/24 dev eth0", "fd00:7::1/64 dev eth0", "10.7.1.1/24 dev eth0", "fd00:7:1::1/64 dev eth0")
	b := l.attach("two", nil, "", "10.7.0.2/24 dev eth0", "fd00:7::2/64 dev eth0")
	c := l.attach("trunk", files, script, "10.7.0.3/24 dev eth0", "fd00:7::3/64 dev eth0")
	reaches := func(g *guest.Guest, to string, want bool) {
		t.Helper()
		if out, status := g.Run("ping -c 2 -i 0.5 -W 5 " + to); (status == 0) != want {
			t.Errorf("reaches %s: %v, want %v\n%s", to, !want, want, out)
		}
	}
	for _, subnet := range []string{"10.7.0.", "fd00:7::"} {
		reaches(b, subnet+"3", true)
		reaches(c, subnet+"2", true)
		reaches(a, subnet+"2", false)
		reaches(b, subnet+"1", false)
		reaches(a, subnet+"3", false)
	}
	if _, status := c.Run("ip link show eth0.100"); status == 0 {
		for _, subnet := range []string{"10.7.1.", "fd00:7:1::"} {
			reaches(c, subnet+"1", true)
			reaches(a, subnet+"3", true)
		}
	} else {
		t.Log("the guest's kernel is not the host's: tags are left to tests/chain")
	}
	for _, g := range []*guest.Guest{a, b, c} {
		g.Close()
	}
}
