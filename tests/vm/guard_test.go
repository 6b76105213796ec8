package vm

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// serveLease runs a DHCP server on the bridge that gives the VM the address that
// ADD gave it, until the test ends.
func (l *lab) serveLease(v *vm) {
	l.t.Helper()
	busybox, err := filepath.Abs("../../.cache/busybox")
	if err != nil {
		l.t.Fatal(err)
	}
	l.sh(`cat > /run/udhcpd.conf <<'END'
start ` + v.address(0) + `
end ` + v.address(0) + `
interface br0
lease_file /run/udhcpd.leases
pidfile /run/udhcpd.pid
option subnet 255.255.255.0
option router ` + v.gateways[0] + `
static_lease ` + v.mac + " " + v.address(0) + `
END
touch /run/udhcpd.leases`)
	server := exec.Command(busybox, "udhcpd", "-f", "-I", v.gateways[0], "/run/udhcpd.conf")
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

// A Linux guest behind a guard notices nothing of it: it probes for its addresses
// before it takes them, asks a DHCP server, and moves bulk data in both families.
func TestGuestBehindAGuard(t *testing.T) {
	for _, placement := range []string{"host", "netns"} {
		t.Run(placement, func(t *testing.T) {
			l := newLab(t, nil, nil)
			add := l.add
			if placement == "netns" {
				l = l.placed()
				add = l.addAway
			}
			v1, v2 := add("vm1"), add("vm2")
			l.serveLease(v1)
			file := make([]byte, 300_001)
			_, _ = rand.NewChaCha8([32]byte{}).Read(file)
			server := l.serveFile(file)
			// DAD stays on: an address that fails is gone.
			script := "ip link set eth0 up\n" +
				`printf '#!/bin/sh\n[ "$1" = bound ] || [ "$1" = renew ] && ip address replace $ip/24 dev $interface && ip route replace default via $router\ntrue\n' > /tmp/bound; chmod +x /tmp/bound` + "\n"
			g1 := &guestAt{guest.Boot(t, l.config(v1, 1, vmm, script)), v1}
			g2 := &guestAt{l.boot(v2, 1), v2}
			if out, status := g1.Run("udhcpc -i eth0 -s /tmp/bound -n -q -f -a -t 10 -T 1"); status != 0 {
				t.Fatalf("udhcpc: exit status %d\n%s", status, out)
			}
			g1.MustRun("ip address add " + v1.ips[1] + " dev eth0")
			settled := g1.MustRun("for i in $(seq 50); do ip -6 address show dev eth0 | grep -q tentative || break; sleep 0.2; done; ip address show dev eth0")
			if !strings.Contains(settled, v1.ips[0]) || !strings.Contains(settled, v1.ips[1]) || !strings.Contains(settled, "fe80::") || strings.Contains(settled, "dadfailed") || strings.Contains(settled, "tentative") {
				t.Errorf("the guest's addresses are\n%s", settled)
			}
			for i := range v1.ips {
				g1.MustRun(ping(v1.gateways[i]))
				g1.MustRun("ping -c 20 -i 0.01 -s 8000 -W 10 " + v2.address(i)) // in fragments
				carry(t, g1, g2, v2.address(i))
				carry(t, g2, g1, v1.address(i))
				server.forget()
				carryDatagrams(t, g1, server, v1.gateways[i])
				g2.MustRun("ping -c 200 -i 0.002 -s 1400 -W 10 " + v1.address(i))
			}
			l.check(v1)
			l.check(v2)
			// What it has no right to is stopped, by a real stack too.
			g1.MustRun("ip address add 10.7.0.200/24 dev eth0")
			if out, status := g1.Run("ping -c 2 -W 1 -I 10.7.0.200 " + v1.gateways[0]); status == 0 {
				t.Errorf("an address of nobody's gets through:\n%s", out)
			}
			g1.Close()
			g2.Close()
			l.del(v1)
			l.del(v2)
		})
	}
}

// carryDatagrams moves the file from the host to the guest and back by TFTP, in
// datagrams of 8 KB, which are fragments on the wire.
func carryDatagrams(t *testing.T, g *guestAt, s *tftp, host string) {
	t.Helper()
	g.MustRun("tftp -g -b 8192 -r file -l /got " + host + " && tftp -p -b 8192 -l /got -r back " + host)
	if got := s.written(); !bytes.Equal(got, s.file) {
		t.Errorf("by TFTP with %s: %d of %d bytes came back, or others", host, len(got), len(s.file))
	}
}
