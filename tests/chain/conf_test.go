package chain

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// cnitool runs cnitool on the host with the conflists of a folder, and returns
// what it prints.
func (h *host) cnitool(folder string, args ...string) (string, error) {
	var out []byte
	err := h.do(func() error {
		cmd := exec.Command(filepath.Join(bin, "cnitool"), args...)
		cmd.Env = append(os.Environ(), "CNI_PATH="+strings.Join(cniPath(), ":"), "NETCONFPATH="+folder)
		if slices.Contains(args, "talos") { // whose addresses come from the runtime
			cmd.Env = append(cmd.Env, "CNI_ARGS=IP=10.5.0.2/24;GATEWAY=10.5.0.1;IgnoreUnknown=1")
		}
		var err error
		out, err = cmd.CombinedOutput()
		return err
	})
	return string(out), err
}

// Every conflist that is shipped goes through all the verbs.
func TestShippedConflists(t *testing.T) {
	folder, err := filepath.Abs("../../conf")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(folder + "/*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conflists in %s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			h := newHost(t)
			list, err := libcni.NetworkConfFromFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(list.Bytes), `"existing"`) {
				h.bridge("br0", "")
			}
			if strings.Contains(string(list.Bytes), `"uplink"`) {
				h.nic("eth1")
			}
			tool := func(args ...string) (string, error) {
				return h.cnitool(folder, append([]string{args[0], list.Name}, args[1:]...)...)
			}
			ok := func(args ...string) string {
				t.Helper()
				out, err := tool(args...)
				if err != nil {
					t.Fatalf("cnitool %v: %v\n%s", args, err, out)
				}
				return out
			}
			fails := func(word string, args ...string) {
				t.Helper()
				if out, err := tool(args...); err == nil || !strings.Contains(out, word) {
					t.Errorf("cnitool %v: %v, want an error about %q\n%s", args, err, word, out)
				}
			}
			one, two := h.NewNetns("one"), h.NewNetns("two")
			if strings.Contains(string(list.Bytes), `"vlan"`) && !h.filters() {
				fails("CONFIG_BRIDGE_VLAN_FILTERING", "add", one)
				ok("del", one)
				h.empty()
				return
			}
			ok("status", one)
			ok("add", one)
			ok("check", one)
			fails("exists already", "add", one)
			ok("check", one)
			if !strings.Contains(string(list.Bytes), `"static"`) { // whose one address is given twice, then
				ok("add", two)
				ok("check", two)
				h.DeleteNetns("two")
				ok("del", two)
				ok("check", one)
			}
			ok("del", one)
			h.empty()
			ok("del", one)
			ok("add", one)
			ok("gc", one)
			h.empty()
			if !strings.Contains(string(list.Bytes), `"firewall"`) { // whose chains stay, empty
				h.unmasked()
			}
		})
	}
}

// cnitool gc deletes what its cache knows, and then has the plugins delete what
// it forgot, without a list of valid attachments.
func TestCnitoolGC(t *testing.T) {
	h := newHost(t)
	lab, side := h.pair(nil), h.side("br0")
	folder := t.TempDir()
	for _, n := range []*network{lab, side} {
		if err := os.WriteFile(filepath.Join(folder, n.name+".conflist"), n.conflist(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	forgotten, cached := h.NewNetns("forgotten"), h.NewNetns("cached")
	for _, args := range [][]string{{"add", "lab", forgotten}, {"add", "side", forgotten}, {"add", "lab", cached}} {
		if out, err := h.cnitool(folder, args...); err != nil {
			t.Fatalf("cnitool %v: %v\n%s", args, err, out)
		}
		if args[1] == "lab" && args[2] == forgotten {
			lab.forget()
		}
	}
	if out, err := h.cnitool(folder, "gc", "lab", cached); err != nil {
		t.Errorf("cnitool gc: %v\n%s", err, out)
	}
	if leases := h.leases("lab"); len(leases) != 0 {
		t.Errorf("leases are %v", leases)
	}
	if leases := h.leases("side"); len(leases) != 1 || len(h.made()) != 2 {
		t.Errorf("leases of the other network are %v, links are %v", leases, h.made())
	}
	if err := side.gc(); err != nil {
		t.Fatal(err)
	}
}

// The files for network managers name all that the plugins make on a host.
func TestNetworkManagersAreKeptOff(t *testing.T) {
	h := newHost(t)
	n, away := h.pair(limitAll), h.network("away", newest, awayTap, gateway.with(conf{"bridge": "mvbr7", "ipam": conf{"type": "host-local", "ranges": ranges("10.7.0.0/16")}}))
	before := h.sh("ls /sys/class/net")
	v := h.vm("vm1")
	n.add(v)
	away.add(v)
	var made []string
	for _, name := range strings.Fields(h.sh("ls /sys/class/net")) {
		if name != "br0" && !slices.Contains(strings.Fields(before), name) {
			made = append(made, name)
		}
	}
	if len(made) < 6 {
		t.Errorf("the plugins made %v only", made)
	}
	for _, file := range []string{"systemd-networkd/10-microvm-cni.network", "NetworkManager/90-microvm-cni.conf"} {
		text, err := os.ReadFile("../../conf/" + file)
		if err != nil {
			t.Fatal(err)
		}
		patterns := strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" \n;:=", r) })
		for _, name := range append(made, "mvg-abcdefghijk", "mvbr4.100") {
			if !slices.ContainsFunc(patterns, func(p string) bool { ok, _ := filepath.Match(p, name); return ok && p != "*" }) {
				t.Errorf("%s does not name %s", file, name)
			}
		}
	}
	n.remove(v)
	away.remove(v)
}
