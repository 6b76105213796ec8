package vm

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// serveDHCP runs a DHCP server on the LAN that a NIC of the host leads to, until
// the test ends.
func (l *lab) serveDHCP(nic string) {
	l.t.Helper()
	busybox, err := filepath.Abs("../../.cache/busybox")
	if err != nil {
		l.t.Fatal(err)
	}
	l.NewNetns("lan")
	l.sh(`ip link add ` + nic + ` type veth peer name eth0 netns lan
ip -n lan address add 192.168.77.1/24 dev eth0; ip -n lan link set eth0 up
cat > /run/udhcpd.conf <<'END'
start 192.168.77.50
end 192.168.77.59
interface eth0
lease_file /run/udhcpd.leases
pidfile /run/udhcpd.pid
option subnet 255.255.255.0
END
touch /run/udhcpd.leases`)
	server := exec.Command("ip", "netns", "exec", "lan", busybox, "udhcpd", "-f", "-I", "192.168.77.1", "/run/udhcpd.conf")
	var out strings.Builder
	server.Stdout, server.Stderr = &out, &out
	l.do("start udhcpd", server.Start)
	l.t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if l.t.Failed() {
			l.t.Logf("udhcpd: %s", &out)
		}
	})
}

// A guest has its address from the DHCP server of the LAN that the uplink leads
// to, and is reached from there.
func TestDHCPThroughTheUplink(t *testing.T) {
	l := newLab(t, nil, keys{"uplink": "lan0", "isGateway": false, "ipam": nil})
	l.serveDHCP("lan0")
	v := l.add("vm1")
	g := l.boot(v, 1)
	g.MustRun(`printf '#!/bin/sh\n[ "$1" = bound ] && ip address add $ip/24 dev $interface\ntrue\n' > /tmp/bound && chmod +x /tmp/bound`)
	if out, status := g.Run("udhcpc -i eth0 -s /tmp/bound -n -q -f -t 10 -T 1"); status != 0 {
		t.Fatalf("udhcpc: exit status %d\n%s", status, out)
	}
	if out := g.MustRun("ip -4 address show dev eth0"); !strings.Contains(out, "192.168.77.5") {
		t.Errorf("the guest has\n%s", out)
	}
	g.MustRun(ping("192.168.77.1"))
	l.check(v)
	g.Close()
	l.del(v)
	if nic := l.sh("ip -d link show lan0"); strings.Contains(nic, "master") || strings.Contains(nic, "microvm") {
		t.Errorf("the NIC is not as it was:\n%s", nic)
	}
	l.sh("ip link del lan0")
}
