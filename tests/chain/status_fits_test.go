package chain

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// STATUS tells of what stands on the host and would make an ADD fail.
func TestStatusOfAStandingBridge(t *testing.T) {
	h := newHost(t)
	h.sh("ip link add br0 mtu 1500 type bridge; ip link set br0 mtu 1400 up")
	n, v := h.pair(conf{"mtu": 1500}), h.vm("vm1")
	wantError(t, n.status(), 50, "bridge br0 has an MTU of 1400, not of 1500")
	_, err := n.tryAdd(v)
	wantError(t, err, 7, "bridge br0 has an MTU of 1400, not of 1500")
	n.remove(v)
	n = h.pair(conf{"mtu": 1400})
	if err := n.status(); err != nil {
		t.Error(err)
	}
	h.sh("ip link del br0")
}

// A bridge that nobody set up is said to be down by ADD as by STATUS.
func TestExistingBridgeThatIsDown(t *testing.T) {
	h := newHost(t)
	h.mine = append(h.mine, "br0")
	h.sh("ip link add br0 type bridge")
	n, v := h.network("lab", newest, tap, plain.with(conf{"bridgeMode": "existing"})), h.vm("vm1")
	wantError(t, n.status(), 50, "bridge br0 is down")
	_, err := n.tryAdd(v)
	wantError(t, err, 7, "bridge br0 is down")
	if !strings.Contains(fmt.Sprint(err), "ip link set br0 up") {
		t.Errorf("%v\ndoes not say what to do", err)
	}
	n.remove(v)
	h.sh("ip link set br0 up")
	n.add(v)
	n.remove(v)
}

// STATUS tells of a gateway that the device it would be on stands against.
func TestStatusOfAnotherGateway(t *testing.T) {
	h := newHost(t)
	h.mine = append(h.mine, "br0")
	h.sh("ip link add br0 up type bridge; ip addr add 10.77.0.1/24 dev br0")
	against := []string{"br0 has the address 10.77.0.1/24 already", "a gateway in 10.1.0.0/16"}
	n, v := h.pair(nil), h.vm("vm1")
	wantError(t, n.status(), 50, against...)
	_, err := n.tryAdd(v)
	wantError(t, err, 7, against[0])
	n.remove(v)
	for name, more := range map[string]conf{
		"no gateway": {"isGateway": false, "isDefaultGateway": false},
		"by force":   {"forceAddress": true},
		"unknown":    {"ipam": conf{"type": "host-local", "ranges": []any{}}, "runtimeConfig": conf{}},
	} {
		if err := h.pair(more).status(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.sh("ip addr add 10.1.0.1/16 dev br0; ip addr del 10.77.0.1/24 dev br0")
	if err := n.status(); err != nil {
		t.Error(err)
	}
}

// A host whose parameters cannot be set has to have them set already.
func TestReadOnlySysctl(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	status := func() answer {
		c := call{plugin: "microvm-bridge", verb: "STATUS", stdin: n.single(1, nil)}
		var stdout, stderr bytes.Buffer
		a := answer{}
		err := h.do(func() error {
			cmd := h.command(c)
			cmd.Args = slices.Concat([]string{"unshare", "-m", "sh", "-ec", `mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys; exec "$0"`, cmd.Path}, cmd.Args[1:])
			var err error
			if cmd.Path, err = exec.LookPath("unshare"); err != nil {
				return err
			}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &stdout, &stderr
			err = cmd.Run()
			a.exit = cmd.ProcessState.ExitCode()
			return err
		})
		a.stdout, a.stderr = stdout.String(), stderr.String()
		if a.exit < 0 {
			t.Fatal(err)
		}
		return a
	}
	status().refused(t, newest, 50, "net.ipv4.ip_forward", "read-only")
	h.sh("sysctl -qw net.ipv4.ip_forward=1")
	status().silent(t)
}
