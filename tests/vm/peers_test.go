package vm

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// The world beyond a host, in documentation addresses, and the host in it.
const (
	outsideNetns = "outside"
	outside4     = "198.51.100.2"
	outside6     = "2001:db8::2"
	host4        = "198.51.100.1"
	host6        = "2001:db8::1"
)

// connectOutside gives the host an uplink to a namespace that knows the way to
// the guests.
func (l *lab) connectOutside() {
	l.t.Helper()
	l.NewNetns(outsideNetns)
	l.sh(`ip link add up0 type veth peer name up0 netns outside
ip address add ` + host4 + `/24 dev up0
ip address add ` + host6 + `/64 dev up0 nodad
ip link set up0 up
ip -n outside address add ` + outside4 + `/24 dev up0
ip -n outside address add ` + outside6 + `/64 dev up0 nodad
ip -n outside link set up0 up
ip -n outside route add default via ` + host4 + `
ip -n outside route add default via ` + host6)
	l.t.Cleanup(func() { l.sh("ip link del up0") })
}

// fetch connects to an address and returns what the server there says. It does
// so from a namespace of the host, or with "" from the host itself.
func (l *lab) fetch(netns, address string, patience time.Duration) (said string, err error) {
	l.t.Helper()
	l.Do(func() {
		if netns != "" {
			if err = enterNetns("/run/netns/" + netns); err != nil {
				return
			}
		}
		// An address needs no resolver, so the socket is made by this very thread.
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", address, patience); err != nil {
			return
		}
		defer conn.Close()
		if err = conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return
		}
		if _, err = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return
		}
		var all []byte
		all, err = io.ReadAll(conn)
		said = string(all)
	})
	return said, err
}

// enterNetns moves the calling thread, which must end when it is done.
func enterNetns(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return nil
}

// serves fails the test unless an address serves the guest's page.
func (l *lab) serves(netns, address string) {
	l.t.Helper()
	if said, err := l.fetch(netns, address, 10*time.Second); err != nil || !strings.Contains(said, page) {
		l.t.Errorf("fetch from %s in namespace %q: %v\n%s", address, netns, err, said)
	}
}

// refuses fails the test if an address serves anything.
func (l *lab) refuses(netns, address string) {
	l.t.Helper()
	if said, err := l.fetch(netns, address, 2*time.Second); err == nil {
		l.t.Errorf("fetch from %s in namespace %q works:\n%s", address, netns, said)
	}
}

// web maps a port of the host to the guest's web server, which serve starts.
var web = map[string]any{"portMappings": []keys{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}}

const (
	page  = "hello from vm1"
	serve = "mkdir /tmp/www && echo '" + page + "' > /tmp/www/index.html && httpd -p 80 -h /tmp/www"
)

// portmap makes a guest's port the host's, in both families and backends,
// whether the tap has a name of its own or the runtime's.
func TestPortmap(t *testing.T) {
	for _, backend := range []string{"iptables", "nftables"} {
		for _, own := range []bool{false, true} {
			name := backend + ", tap with a name of its own"
			if own {
				name = backend + ", tap named CNI_IFNAME"
			}
			t.Run(name, func(t *testing.T) {
				l := newLab(t, nil, nil, keys{"type": "portmap", "backend": backend, "capabilities": keys{"portMappings": true}})
				l.connectOutside()
				rt := &libcni.RuntimeConf{ContainerID: "vm1", IfName: "eth0", CapabilityArgs: web}
				if own {
					rt.NetNS = l.Path()
					t.Setenv("CNI_NETNS_OVERRIDE", "1") // or portmap refuses its own namespace
				} else {
					rt.NetNS = l.NewNetns("vm1")
				}
				v := l.attach(rt)
				if (v.tap == rt.IfName) != own {
					t.Fatalf("the tap is %s", v.tap)
				}
				g := l.boot(v, 1)
				g.MustRun(serve)
				l.serves(outsideNetns, host4+":8080")
				l.serves(outsideNetns, "["+host6+"]:8080")
				l.serves("", "127.0.0.1:8080")
				l.check(v)
				g.Close()
				l.del(v)
				l.refuses(outsideNetns, host4+":8080")
			})
		}
	}
}

// firewall lets a guest through where nothing is forwarded, not even from port
// to port of a bridge. What begins outside it lets through for nobody: a mapped
// port needs a rule of the administrator's.
func TestFirewall(t *testing.T) {
	guarded := newLab(t, nil, nil,
		keys{"type": "portmap", "backend": "iptables", "capabilities": keys{"portMappings": true}}, keys{"type": "firewall", "backend": "iptables"})
	plain := *guarded
	plain.list = guarded.without("firewall")
	guarded.connectOutside()
	guarded.sh(`sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
iptables -P FORWARD DROP
ip6tables -P FORWARD DROP`)
	v1 := guarded.attach(&libcni.RuntimeConf{ContainerID: "vm1", NetNS: guarded.NewNetns("vm1"), IfName: "eth0", CapabilityArgs: web})
	v2, v3 := guarded.add("vm2"), plain.add("vm3")
	g1, g2, g3 := guarded.boot(v1, 1), guarded.boot(v2, 1), plain.boot(v3, 1)
	g1.MustRun(serve)

	for i, outside := range []string{outside4, outside6} {
		g1.MustRun(ping(outside))
		g1.MustRun(ping(v2.address(i)))
		g2.MustRun(ping(v1.address(i)))
		g3.MustRun(ping(v3.gateways[i]))
		for _, to := range []string{outside, v1.address(i)} {
			if out, status := g3.Run("ping -c 2 -i 0.2 -W 1 " + to); status == 0 {
				t.Errorf("a guest without firewall reaches %s:\n%s", to, out)
			}
		}
	}
	guarded.check(v1)

	guarded.del(v2) // and with it its rules, but not those of vm1
	g1.MustRun(ping(outside4))
	guarded.check(v1)

	guarded.refuses(outsideNetns, host4+":8080")
	guarded.sh("iptables -A CNI-ADMIN -m conntrack --ctstate DNAT -j ACCEPT")
	guarded.serves(outsideNetns, host4+":8080")
	guarded.check(v1)

	guarded.sh("iptables -P FORWARD ACCEPT; ip6tables -P FORWARD ACCEPT")
	g3.MustRun(ping(outside4)) // so it was the policy
	g3.MustRun(ping(outside6))
	for _, g := range []*guest.Guest{g1, g2, g3} {
		g.Close()
	}
	guarded.del(v1)
	plain.del(v3)
}

// without is the lab's conflist less the plugins of a type.
func (l *lab) without(typ string) *libcni.NetworkConfigList {
	list := *l.list
	list.Plugins = nil
	for _, p := range l.list.Plugins {
		if p.Network.Type != typ {
			list.Plugins = append(list.Plugins, p)
		}
	}
	return &list
}
