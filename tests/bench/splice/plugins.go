//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/tests/bench/netns"
)

// pluginWays is a table of its own: what the plugins make, guards and all.
func pluginWays(folder string) []way {
	here, there := pluggedBy(folder, "host", nil), pluggedBy(folder, "netns", nil)
	// What a guest receives is limited at its port, past which no shortcut leads.
	limited := pluggedBy(folder, "netns", map[string]any{"ingressRate": uint64(1e12), "ingressBurst": uint64(1e9)})
	return []way{
		{"both on the host", here, here, false},
		{"sender in netns", there, here, false},
		{"receiver in netns", here, there, false},
		{"both in netns", there, there, false},
		{"receiver in netns, limited", here, limited, true},
	}
}

// pluggedBy makes the two plugins in that folder connect a tap.
func pluggedBy(folder, placement string, more map[string]any) connect {
	return func(r *rig, vmm netns.Namespace, bridge netlink.Link) (int, error) {
		name, mac := r.name("nic"), macs[0]
		if vmm == r.vmms[1] {
			mac = macs[1]
		}
		bridgeConf := map[string]any{"bridge": bridge.Attrs().Name, "bridgeMode": "existing", "guard": map[string]any{"mode": "off"}}
		maps.Copy(bridgeConf, more)
		var result json.RawMessage
		for _, p := range []struct {
			plugin string
			conf   map[string]any
		}{{"microvm-tap", map[string]any{"placement": placement}}, {"microvm-bridge", bridgeConf}} {
			p.conf["cniVersion"], p.conf["name"], p.conf["type"] = "1.1.0", "bench", p.plugin
			if result != nil {
				p.conf["prevResult"] = result
			}
			var err error
			if result, err = add(r, vmm, filepath.Join(folder, p.plugin), name, p.conf, "MAC="+mac.String()+";TAP_NAME="+name); err != nil {
				return -1, err
			}
		}
		at := r.host
		if placement == "netns" {
			at = vmm
		}
		fd := -1
		return fd, at.Do(func() (err error) { fd, err = openTap(name); return err })
	}
}

// add calls ADD in the host's namespace, with a /run of its own for the lock.
func add(r *rig, vmm netns.Namespace, plugin, name string, conf map[string]any, args string) (json.RawMessage, error) {
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	var out []byte
	err = r.host.Do(func() error {
		c := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /run && printf %s "$CONF" | "$PLUGIN"`)
		c.Env = append(os.Environ(), "CONF="+string(stdin), "PLUGIN="+plugin, "CNI_COMMAND=ADD", "CNI_CONTAINERID="+name, "CNI_IFNAME=eth0",
			"CNI_PATH="+filepath.Dir(plugin), "CNI_ARGS="+args, fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), vmm.File.Fd()))
		out, err = c.Output()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", plugin, err, out)
	}
	return out, nil
}
