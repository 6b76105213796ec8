package vm

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// nic attaches a VM, and reads the result as a runtime would.
func (l *lab) nic(rt *libcni.RuntimeConf) *vmconf.NIC {
	l.t.Helper()
	var n *vmconf.NIC
	l.do("ADD", func() error {
		r, err := l.cni.AddNetworkList(context.Background(), l.list, rt)
		if err != nil {
			return err
		}
		n, err = vmconf.Parse(r, vmconf.Attachment{ContainerID: rt.ContainerID, IfName: rt.IfName, Netns: rt.NetNS})
		return err
	})
	return n
}

// configured boots a guest that is told nothing but what vmconf wrote: QEMU's
// arguments, and either a kernel argument or a file. Debian's kernel leaves ip=
// to its initramfs, and the initramfs has no networkd: the scripts do what the
// documents of both say, and know nothing of the result.
func (l *lab) configured(n *vmconf.NIC, config guest.Config) *guest.Guest {
	l.t.Helper()
	args, err := n.QEMU(vmconf.QEMU{Device: "virtio-net-device"})
	if err != nil {
		l.t.Fatal(err)
	}
	config.UID, config.GID, config.Arguments = vmm, vmm, args
	if config.Netns == "" {
		config.Netns = l.Outside()
	}
	return guest.Boot(l.t, config)
}

// byKernelIP is what Documentation/admin-guide/nfs says of ip=.
const byKernelIP = `
set -e
for word in $(cat /proc/cmdline); do case $word in ip=*) value=${word#ip=};; esac; done
echo "$value" | tr : '\n' > /tmp/ip
field() { sed -n "$1p" /tmp/ip; }
[ "$(field 7)" = off ]
ifconfig "$(field 6)" "$(field 1)" netmask "$(field 4)" up
if [ -n "$(field 3)" ]; then route add default gw "$(field 3)"; fi
for i in 8 9; do if [ -n "$(field $i)" ]; then echo "nameserver $(field $i)"; fi; done > /etc/resolv.conf
`

// byNetworkd is what systemd.network(5) says of the keys that vmconf writes.
const byNetworkd = `
set -e
finish() {
	if [ -n "$destination" ]; then ip route add "$destination" ${gateway:+via "$gateway"} dev eth0; fi
	destination='' gateway=''
}
while IFS='=' read -r key value; do
	case $section.$key in
	*.\[*) finish; section=$key;;
	\[Match\].MACAddress) [ "$(cat /sys/class/net/eth0/address)" = "$value" ]; echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set eth0 up;;
	\[Link\].MTUBytes) ip link set eth0 mtu "$value";;
	\[Network\].Address) ip address add "$value" dev eth0;;
	\[Route\].Destination) destination=$value;;
	\[Route\].Gateway) gateway=$value;;
	*.) ;;
	*) echo "no idea of $section $key" >&2; exit 1;;
	esac
done < /etc/eth0.network
finish
`

// A guest that got QEMU arguments and an ip= from vmconf, and nothing else,
// reaches its gateway and beyond, with its MAC address and its MTU.
func TestGuestByKernelIP(t *testing.T) {
	l := newLab(t, keys{"mtu": 1400}, keys{"dns": keys{"nameservers": []string{"10.7.0.1", "9.9.9.9"}}})
	rt := &libcni.RuntimeConf{ContainerID: "vm1", NetNS: l.NewNetns("vm1"), IfName: "eth0"}
	n := l.nic(rt)
	boot, err := n.KernelIP("eth0")
	if err != nil {
		t.Fatal(err)
	}
	l.sh("ip address add 203.0.113.1/32 dev br0")
	g := l.configured(n, guest.Config{KernelLine: boot, Script: byKernelIP})
	for file, want := range map[string]string{
		"/sys/class/net/eth0/address": n.MAC.String(), "/sys/class/net/eth0/mtu": "1400", "/etc/resolv.conf": "nameserver 10.7.0.1\nnameserver 9.9.9.9",
	} {
		if got := strings.TrimSpace(g.MustRun("cat " + file)); got != want {
			t.Errorf("%s says %q, want %q", file, got, want)
		}
	}
	g.MustRun(ping(n.Addresses[0].Gateway.String()))
	g.MustRun(ping("203.0.113.1")) // by the default route
	g.Close()
	l.del(&vm{rt: rt})
}

// The same in both families, by a .network file; the MTU comes off the live tap,
// for the result does not hold it.
func TestGuestByNetworkd(t *testing.T) {
	l := newLab(t, keys{"mtu": 1400}, nil)
	l.version("0.4.0")
	rt := &libcni.RuntimeConf{ContainerID: "vm1", NetNS: l.NewNetns("vm1"), IfName: "eth0"}
	n := l.nic(rt)
	l.do("read MTU", func() (err error) {
		if n.MTU != 0 {
			t.Errorf("a result of version 0.4.0 holds the MTU %d", n.MTU)
		}
		n.MTU, err = vmconf.TapMTU(n.Tap, n.Netns)
		return err
	})
	file := filepath.Join(t.TempDir(), "eth0.network")
	if err := os.WriteFile(file, []byte(n.Networkd()), 0o644); err != nil {
		t.Fatal(err)
	}
	l.sh("ip address add 203.0.113.1/32 dev br0; ip address add 2001:db8::1/128 dev br0 nodad")
	g := l.configured(n, guest.Config{Script: byNetworkd, Files: map[string]string{"/etc/eth0.network": file}})
	if got := strings.TrimSpace(g.MustRun("cat /sys/class/net/eth0/mtu")); got != strconv.Itoa(n.MTU) || n.MTU != 1400 {
		t.Errorf("MTU in the guest is %s, of the tap %d, want 1400", got, n.MTU)
	}
	for i, beyond := range []string{"203.0.113.1", "2001:db8::1"} {
		g.MustRun(ping(n.Addresses[i].Gateway.String()))
		g.MustRun(ping(beyond))
	}
	g.Close()
	l.del(&vm{rt: rt})
}

// QEMU takes a tap whose name has a comma in it for what it is.
func TestTapNameWithComma(t *testing.T) {
	l := newLab(t, nil, nil)
	rt := &libcni.RuntimeConf{ContainerID: "vm1", NetNS: l.NewNetns("vm1"), IfName: "eth0", Args: [][2]string{{"TAP_NAME", "a,b"}}}
	n := l.nic(rt)
	boot, err := n.KernelIP("")
	if err != nil || n.Tap != "a,b" {
		t.Fatalf("tap is %s, %v", n.Tap, err)
	}
	g := l.configured(n, guest.Config{KernelLine: strings.Replace(boot, ":::off", "::eth0:off", 1), Script: byKernelIP})
	g.MustRun(ping(n.Addresses[0].Gateway.String()))
	g.Close()
	l.del(&vm{rt: rt})
}

// version changes the conflist's version of the specification.
func (l *lab) version(cniVersion string) {
	l.t.Helper()
	var conf map[string]any
	if err := json.Unmarshal(l.list.Bytes, &conf); err != nil {
		l.t.Fatal(err)
	}
	conf["cniVersion"] = cniVersion
	text, err := json.Marshal(conf)
	if err == nil {
		l.list, err = libcni.ConfListFromBytes(text)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}
