package chain

import (
	"slices"
	"strings"
	"testing"
)

// versions are those of the specification whose results name interfaces.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// since are the versions from the first one on.
func since(first string) []string { return versions[slices.Index(versions, first):] }

func TestVersionVerb(t *testing.T) {
	h := newHost(t)
	for _, plugin := range []string{"microvm-tap", "microvm-bridge"} {
		doc := h.exec(call{plugin: plugin, verb: "VERSION"}).ok(t).object(t)
		if doc["cniVersion"] != newest {
			t.Errorf("%s: cniVersion %v", plugin, doc["cniVersion"])
		}
		supported, _ := doc["supportedVersions"].([]any)
		for _, v := range append([]string{"0.1.0", "0.2.0"}, versions...) {
			if !slices.Contains(supported, any(v)) {
				t.Errorf("%s: version %s is not in %v", plugin, v, supported)
			}
		}
	}
}

// A person who starts a plugin by hand is told what it is.
func TestWithoutCommand(t *testing.T) {
	h := newHost(t)
	for _, plugin := range []string{"microvm-tap", "microvm-bridge"} {
		a := h.exec(call{plugin: plugin, env: []string{"CNI_COMMAND"}})
		if a.exit != 0 || a.stdout != "" || !strings.Contains(a.stderr, "CNI plugin "+plugin) {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", plugin, a.exit, a.stdout, a.stderr)
		}
	}
}

// Every verb answers with nothing but one document of the version asked for, or
// with nothing.
func TestVerbsByHand(t *testing.T) {
	for _, version := range since("0.3.0") {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", version, tap, gateway)
			v := h.vm("vm1")
			run := func(i int, verb string, more conf) answer {
				return h.exec(call{plugin: n.plugins[i].plugin(), verb: verb, vm: v, stdin: n.single(i, more)})
			}
			first := run(0, "ADD", nil).ok(t).object(t)
			second := run(1, "ADD", conf{"prevResult": first}).ok(t).object(t)
			for _, doc := range []map[string]any{first, second} {
				if doc["cniVersion"] != version {
					t.Errorf("cniVersion %v, want %s", doc["cniVersion"], version)
				}
			}
			prev := conf{"prevResult": second}
			for i := range n.plugins {
				switch check := run(i, "CHECK", prev); version {
				case "0.3.0", "0.3.1":
					check.refused(t, version, 1)
				default:
					check.silent(t)
				}
				switch status := run(i, "STATUS", nil); version {
				case newest:
					status.silent(t)
				default:
					status.refused(t, version, 1)
				}
				switch gc := run(i, "GC", conf{"cni.dev/valid-attachments": []conf{{"containerID": v.id, "ifname": v.ifname}}}); version {
				case newest:
					gc.silent(t)
				default:
					gc.refused(t, version, 1)
				}
			}
			run(1, "DEL", prev).silent(t)
			run(0, "DEL", prev).silent(t)
		})
	}
}

// CHECK of a version that has it needs what ADD answered.
func TestCheckWithoutPrevResult(t *testing.T) {
	for _, version := range since("0.4.0") {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", version, tap, gateway)
			for i, p := range n.plugins {
				h.exec(call{plugin: p.plugin(), verb: "CHECK", vm: h.vm("vm1"), stdin: n.single(i, nil)}).
					refused(t, version, 7, "prevResult")
			}
		})
	}
}
