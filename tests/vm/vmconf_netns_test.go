package vm

import (
	"fmt"
	"os"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// A guest whose QEMU runs in the tap's namespace, as the result says, and that
// knows what vmconf wrote, and nothing else.
func TestGuestInNetns(t *testing.T) {
	l := newLab(t, keys{"placement": "netns"}, keys{"mtu": 1400})
	rt := &libcni.RuntimeConf{ContainerID: "vm1", NetNS: l.NewNetns("vm1"), IfName: "eth0"}
	n := l.nic(rt)
	if n.Netns != rt.NetNS || n.MTU != 1400 {
		t.Errorf("got %+v", n)
	}
	boot, err := n.KernelIP("eth0")
	if err != nil {
		t.Fatal(err)
	}
	var netns *os.File
	l.do("open "+n.Netns, func() (err error) {
		netns, err = os.Open(n.Netns)
		return err
	})
	defer netns.Close()
	l.sh("ip address add 203.0.113.1/32 dev br0")
	g := l.configured(n, guest.Config{Netns: fmt.Sprintf("/proc/self/fd/%d", netns.Fd()), KernelLine: boot, Script: byKernelIP})
	g.MustRun(ping(n.Addresses[0].Gateway.String()))
	g.MustRun(ping("203.0.113.1"))
	g.MustRun("grep -x 1400 /sys/class/net/eth0/mtu")
	g.Close()
	l.del(&vm{rt: rt})
}
