package chain

import (
	"bytes"
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
