package vm

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// away tells whether the VM's tap is in the namespace that it is known by.
func (v *vm) away() bool { return v.netns != "" }

// placed is the same network for a VMM that runs in CNI_NETNS.
func (l *lab) placed() *lab {
	l.t.Helper()
	there := *l
	var err error
	text := strings.Replace(string(l.list.Bytes), `"type":"microvm-tap"`, `"type":"microvm-tap","placement":"netns"`, 1)
	if there.list, err = libcni.ConfListFromBytes([]byte(text)); err != nil {
		l.t.Fatal(err)
	}
	return &there
}

// addAway attaches a VM whose VMM runs in a namespace of its own.
func (l *lab) addAway(id string) *vm {
	l.t.Helper()
	v := &vm{rt: &libcni.RuntimeConf{ContainerID: id, NetNS: l.NewNetns(id), IfName: "eth0"}}
	l.Do(func() {
		f, err := os.Open(v.rt.NetNS)
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { _ = f.Close() })
		v.netns = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	})
	return l.attached(v)
}

const bulk = 4 << 20 // bytes of one transfer

// carry moves bytes from one guest to another over TCP, and looks at what arrives.
func carry(t *testing.T, from, to *guestAt, address string) {
	t.Helper()
	// A nc whose standard input ends makes the other one end, too: this one's never does.
	to.MustRun("[ -p /open ] || mkfifo /open; nc -l -p 5001 <> /open > /received & echo $! > /pid; until netstat -ltn | grep -q 5001; do sleep 0.1; done")
	from.MustRun(fmt.Sprintf("head -c %d /dev/urandom > /sent; nc -w 30 %s 5001 < /sent", bulk, address))
	sum := strings.Fields(from.MustRun("md5sum /sent"))[0]
	got := strings.Fields(to.MustRun("for i in 1 2 3 4 5 6 7 8 9 10; do [ -d /proc/$(cat /pid) ] || break; sleep 0.2; done; md5sum /received"))[0]
	if got != sum {
		t.Errorf("%d bytes to %s: sum %s arrived, %s was sent: %s", bulk, address, got, sum, to.MustRun("ls -l /received"))
	}
}

// A guest whose unprivileged QEMU runs inside CNI_NETNS reaches gateway and neighbour,
// in both families, with bulk TCP and all offloads, and no frame has a bad checksum.
func TestGuestInsideNetns(t *testing.T) {
	l := newLab(t, nil, nil)
	v1, v2 := l.placed().addAway("vm1"), l.add("vm2")
	g1, g2 := &guestAt{l.boot(v1, 1), v1}, &guestAt{l.boot(v2, 1), v2}
	if got := strings.TrimSpace(g1.MustRun("cat /sys/class/net/eth0/address")); got != v1.mac || len(v1.ips) != 2 {
		t.Errorf("the guest has MAC address %s, ADD said %s and addresses %v", got, v1.mac, v1.ips)
	}
	sniffer := l.sniff()
	for i := range v1.ips {
		g1.MustRun(ping(v1.gateways[i]))
		g1.MustRun(ping(v2.address(i)))
		g2.MustRun(ping(v1.address(i)))
		carry(t, g1, g2, v2.address(i))
		carry(t, g2, g1, v1.address(i))
	}
	seen := sniffer.stop()
	t.Logf("%+v", seen)
	if seen.bad > 0 || seen.tcp4 == 0 || seen.tcp6 == 0 {
		t.Errorf("frames with a bad checksum, and of TCP in either family: %+v; the first: %s", seen, seen.first)
	}
	if seen.long == 0 || seen.partial == 0 {
		t.Errorf("no frame was left to be cut up, or to be summed: the guests' offloads are off: %+v", seen)
	}
	for _, g := range []*guestAt{g1, g2} {
		if errs := strings.Fields(g.MustRun("grep '^Tcp:' /proc/net/snmp | tail -1")); errs[len(errs)-1] != "0" {
			t.Errorf("guest %s received %s segments with a bad checksum", g.v.mac, errs[len(errs)-1])
		}
	}
	l.placed().check(v1)
	l.check(v2)
	l.placed().del(v1) // QEMU still holds the tap
	if out, status := g2.Run("ping -c 1 -W 1 " + v1.address(0)); status == 0 {
		t.Errorf("vm2 still reaches vm1:\n%s", out)
	}
	g1.Close()
	g2.Close()
	l.del(v2)
}
