// Package vm boots real guests on taps that the plugins made, with a QEMU that
// has no privilege at all.
package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/tests/sandbox"
	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// vmm is the user that QEMU runs as: one that nobody is.
const vmm = 61000

var bin string // folder with the plugins, cnitool, host-local, portmap and firewall

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "microvm-cni-vm-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bin = dir
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "../../plugins/...",
		"github.com/containernetworking/cni/cnitool",
		"github.com/containernetworking/plugins/plugins/ipam/host-local",
		"github.com/containernetworking/plugins/plugins/meta/firewall",
		"github.com/containernetworking/plugins/plugins/meta/portmap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

type keys map[string]any

// lab is a network on a host of its own.
type lab struct {
	*sandbox.Host
	t    *testing.T
	list *libcni.NetworkConfigList
	cni  *libcni.CNIConfig
}

// newLab makes a host with the usual chain, configured further, and plugins that
// come after ours.
func newLab(t *testing.T, tap, bridge keys, later ...keys) *lab {
	t.Helper()
	conf := func(base, more keys) keys {
		for k, v := range more {
			base[k] = v
		}
		return base
	}
	list, err := json.Marshal(keys{"cniVersion": "1.1.0", "name": "lab", "plugins": append([]keys{
		conf(keys{"type": "microvm-tap", "owner": vmm}, tap),
		conf(keys{"type": "microvm-bridge", "bridge": "br0", "isGateway": true, "ipam": keys{
			"type": "host-local", "ranges": [][]keys{{{"subnet": "10.7.0.0/24"}}, {{"subnet": "fd00:7::/64"}}},
			"routes": []keys{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
		}}, bridge),
	}, later...)})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{Host: sandbox.NewHost(t), t: t, cni: libcni.NewCNIConfigWithCacheDir([]string{bin}, "/var/lib/cni", nil)}
	if l.list, err = libcni.ConfListFromBytes(list); err != nil {
		t.Fatal(err)
	}
	return l
}

// do runs libcni on the host.
func (l *lab) do(verb string, f func() error) {
	l.t.Helper()
	var err error
	l.Do(func() { err = f() })
	if err != nil {
		l.t.Fatalf("%s: %v", verb, err)
	}
}

// sh runs a shell script on the host and returns what it prints.
func (l *lab) sh(script string) string {
	l.t.Helper()
	var out []byte
	l.do(script, func() (err error) {
		cmd := exec.Command("sh", "-ec", script)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if out, err = cmd.Output(); err != nil {
			return fmt.Errorf("%w\n%s", err, stderr.String())
		}
		return nil
	})
	return string(out)
}

// vm is an attachment: what a VMM has to know of it.
type vm struct {
	rt       *libcni.RuntimeConf
	tap, mac string
	netns    string   // that QEMU runs in, by a path of this process; "" for the host's
	ips      []string // with prefix length
	gateways []string
}

func (l *lab) add(id string) *vm {
	l.t.Helper()
	return l.attach(&libcni.RuntimeConf{ContainerID: id, NetNS: l.NewNetns(id), IfName: "eth0"})
}

func (l *lab) attach(rt *libcni.RuntimeConf) *vm {
	l.t.Helper()
	return l.attached(&vm{rt: rt})
}

func (l *lab) attached(v *vm) *vm {
	l.t.Helper()
	l.do("ADD", func() error {
		raw, err := l.cni.AddNetworkList(context.Background(), l.list, v.rt)
		if err != nil {
			return err
		}
		r, err := types100.NewResultFromResult(raw)
		if err != nil {
			return err
		}
		return v.read(r)
	})
	return v
}

func (v *vm) read(r *types100.Result) error {
	for i, in := range r.Interfaces {
		if in.Sandbox != v.rt.ContainerID {
			continue
		}
		v.tap, v.mac = in.Name, in.Mac
		for _, ip := range r.IPs {
			// Of a tap that is not on the host, the second address is the tap's.
			on := r.Interfaces[*ip.Interface]
			if *ip.Interface == i || v.away() && on.Name == in.Name && on.Sandbox == v.rt.NetNS {
				v.ips = append(v.ips, ip.Address.String())
				v.gateways = append(v.gateways, ip.Gateway.String())
			}
		}
		return nil
	}
	return fmt.Errorf("no guest NIC in %v", r)
}

func (l *lab) check(v *vm) {
	l.t.Helper()
	l.do("CHECK", func() error { return l.cni.CheckNetworkList(context.Background(), l.list, v.rt) })
}

func (l *lab) del(v *vm) {
	l.t.Helper()
	l.do("DEL", func() error { return l.cni.DelNetworkList(context.Background(), l.list, v.rt) })
}

// boot boots a guest with the addresses that ADD gave it.
func (l *lab) boot(v *vm, queues int) *guest.Guest {
	l.t.Helper()
	script := "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad\nip link set eth0 up\n"
	for i, ip := range v.ips {
		script += "ip address add " + ip + " dev eth0\n"
		script += "ip route add default via " + v.gateways[i] + "\n"
	}
	return guest.Boot(l.t, l.config(v, queues, vmm, script))
}

func (l *lab) config(v *vm, queues int, uid uint32, script string) guest.Config {
	netns := v.netns
	if netns == "" {
		netns = l.Outside()
	}
	return guest.Config{
		UID: uid, GID: vmm, Netns: netns, Script: script,
		NICs: []guest.NIC{{Tap: v.tap, MAC: v.mac, Queues: queues}},
	}
}

// address is the i-th address of the VM without its prefix length.
func (v *vm) address(i int) string { return strings.Split(v.ips[i], "/")[0] }

func ping(to string) string { return "ping -c 2 -i 0.2 -W 10 " + to }

// The promise of the whole: two guests, two families, everybody reaches
// everybody, CHECK is green while they run, and DEL takes it all away from under
// a VMM that still holds its tap.
func TestGuestsTalk(t *testing.T) {
	l := newLab(t, nil, nil)
	v1, v2 := l.add("vm1"), l.add("vm2")
	g1, g2 := l.boot(v1, 1), l.boot(v2, 1)
	if got := strings.TrimSpace(g1.MustRun("cat /sys/class/net/eth0/address")); got != v1.mac {
		t.Errorf("the guest has MAC address %s, ADD said %s", got, v1.mac)
	}
	for i := range v1.ips {
		g1.MustRun(ping(v1.gateways[i]))
		g1.MustRun(ping(v2.address(i)))
		g2.MustRun(ping(v1.address(i)))
	}
	l.check(v1)
	l.check(v2)

	l.del(v1) // QEMU still holds the tap
	for _, name := range l.Links() {
		if name == v1.tap {
			t.Errorf("%s is still there", name)
		}
	}
	if out, status := g2.Run("ping -c 1 -W 1 " + v1.address(0)); status == 0 {
		t.Errorf("vm2 still reaches vm1:\n%s", out)
	}
	g2.MustRun(ping(v2.gateways[0]))
	g1.Close()
	g2.Close()
	l.del(v2)
}

// What portIsolation does on the wire: the gateway answers, the neighbour does not.
func TestIsolatedGuests(t *testing.T) {
	l := newLab(t, nil, keys{"portIsolation": true})
	v1, v2 := l.add("vm1"), l.add("vm2")
	g1, g2 := l.boot(v1, 1), l.boot(v2, 1)
	for i := range v1.ips {
		g1.MustRun(ping(v1.gateways[i]))
		g2.MustRun(ping(v2.gateways[i]))
		if out, status := g1.Run("ping -c 2 -i 0.2 -W 1 " + v2.address(i)); status == 0 {
			t.Errorf("isolated guests talk:\n%s", out)
		}
	}
	g1.Close()
	g2.Close()
	l.del(v1)
	l.del(v2)
}

// A VMM of another user must not get hold of the tap.
func TestOtherUsersAreKeptOut(t *testing.T) {
	l := newLab(t, nil, nil)
	v := l.add("vm1")
	g, err := guest.Start(t, l.config(v, 1, vmm+1, ""))
	if err == nil {
		g.Close()
		t.Errorf("user %d took the tap of user %d", vmm+1, vmm)
	} else if !strings.Contains(err.Error(), "Operation not permitted") {
		t.Errorf("QEMU as another user: %v, want EPERM", err)
	}
	l.del(v)
}

// A tap with several queues carries traffic on each of them.
func TestMultiQueue(t *testing.T) {
	l := newLab(t, keys{"multiQueue": true}, nil)
	v := l.add("vm1")
	g := l.boot(v, 2)
	if got := strings.TrimSpace(g.MustRun("ls -d /sys/class/net/eth0/queues/tx-* | wc -l")); got != "2" {
		t.Errorf("eth0 has %s queues, want 2", got)
	}
	// Each CPU of the guest sends through a queue of its own.
	for cpu := range 2 {
		mask := strings.TrimSpace(g.MustRun(fmt.Sprintf("cat /sys/class/net/eth0/queues/tx-%d/xps_cpus", cpu)))
		if want := fmt.Sprint(1 << cpu); strings.TrimLeft(mask, "0,") != want {
			t.Fatalf("queue %d serves the CPUs %s, want %s", cpu, mask, want)
		}
		g.MustRun(fmt.Sprintf("taskset %d %s", 1<<cpu, ping(v.gateways[0])))
	}
	l.check(v)
	g.Close()
	l.del(v)
}

// Without addresses the host's part is done all the same: a guest that brings
// its own talks to the bridge of somebody else.
func TestExistingBridgeWithoutAddresses(t *testing.T) {
	l := newLab(t, nil, keys{"bridgeMode": "existing", "isGateway": false, "ipam": nil})
	l.sh("ip link add br0 type bridge; ip address add 192.168.5.1/24 dev br0; ip link set br0 up")
	v := l.add("vm1")
	g := l.boot(v, 1)
	g.MustRun("ip address add 192.168.5.9/24 dev eth0")
	g.MustRun(ping("192.168.5.1"))
	g.Close()
	l.del(v)
	l.sh("ip link del br0")
}
