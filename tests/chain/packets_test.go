package chain

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const port = 5000 // of UDP, that all packets go to

// station makes a network namespace with one NIC. The other end of the cable is
// on the host, under the station's name.
func (h *host) station(name string, addresses ...string) {
	h.t.Helper()
	h.NewNetns(name)
	h.sh("ip link add " + name + " type veth peer name eth0 netns " + name + " && ip link set " + name + " up && ip -n " + name + " link set eth0 up")
	h.mine = append(h.mine, name)
	for _, a := range addresses {
		h.sh("ip -n " + name + " address add " + a + " dev eth0 nodad")
	}
	h.t.Cleanup(func() { h.sh("ip link del " + name) })
}

// watch counts what arrives at a station from the source, before it is decided
// whom it is for.
func (h *host) watch(station, source, destination string) (count func() string) {
	h.t.Helper()
	family := "ip"
	if strings.Contains(source, ":") {
		family = "ip6"
	}
	h.sh(fmt.Sprintf(`ip netns exec %s nft 'add table inet seen; add chain inet seen in { type filter hook prerouting priority 0; }; `+
		`add rule inet seen in udp dport %d %s saddr %s %s daddr %s counter'`, station, port, family, source, family, destination))
	return func() string {
		h.t.Helper()
		return strings.TrimSpace(h.sh(fmt.Sprintf(`ip netns exec %s nft list table inet seen | grep ' saddr %s .* daddr %s counter' | sed 's/.*packets \([0-9]*\) .*/\1/'`, station, source, destination)))
	}
}

// send makes a station send one packet.
func (h *host) send(station, from, to string) {
	h.t.Helper()
	err := h.do(func() error {
		fd, err := unix.Open("/run/netns/"+station, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
		remote := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), port))
		if remote.IP.IsMulticast() && remote.IP.To4() == nil || remote.IP.IsLinkLocalUnicast() {
			remote.Zone = "eth0"
		}
		conn, err := net.DialUDP("udp", local, remote)
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("x"))
		return errors.Join(err, conn.Close())
	})
	if err != nil {
		h.t.Fatalf("send from %s to %s: %v", from, to, err)
	}
}

// What a guest sends beyond its subnet, and only that, gets the host's address:
// seen on the wire, where it leaves the host, and, since bridged packets go
// through the rules of br_netfilter, on the bridge.
func TestMasqueradedPackets(t *testing.T) {
	for _, backend := range append([]string{""}, natBackends...) {
		t.Run("backend "+backend, func(t *testing.T) {
			h := newHost(t)
			n := h.pair(both)
			if backend != "" {
				n = h.masked(backend)
			}
			v := h.vm("vm1")
			n.add(v)
			h.station("outside", "203.0.113.2/24", "2001:db8::2/64")
			h.sh("ip address add 203.0.113.1/24 dev outside; ip address add 2001:db8::1/64 dev outside nodad")
			// The guest's addresses, at a station in its place.
			h.station("guest", "10.1.0.2/16", "fd00:1::2/64")
			h.station("peer", "10.1.0.51/16", "fd00:1::51/64")
			h.sh(`ip link set guest master br0; ip link set peer master br0
sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
ip -n guest route add default via 10.1.0.1; ip -n guest route add default via fd00:1::1
mac=$(ip netns exec peer cat /sys/class/net/eth0/address)
ip -n guest route add 198.51.100.0/24 dev eth0; ip -n guest neigh add 198.51.100.9 lladdr $mac dev eth0
ip -n guest neigh add 10.1.0.51 lladdr $mac dev eth0; ip -n guest neigh add fd00:1::51 lladdr $mac dev eth0; ip -n guest neigh add fe80::51 lladdr $mac dev eth0`)
			type packet struct{ station, from, to, source string }
			packets := []packet{
				{"peer", "10.1.0.2", "10.1.0.51", "10.1.0.2"},
				{"peer", "10.1.0.2", "10.1.255.255", "10.1.0.2"},
				{"peer", "10.1.0.2", "255.255.255.255", "10.1.0.2"},
				{"peer", "10.1.0.2", "224.0.0.251", "10.1.0.2"},
				{"peer", "fd00:1::2", "fd00:1::51", "fd00:1::2"},
				{"peer", "fd00:1::2", "ff02::fb", "fd00:1::2"},
			}
			if backend != "iptables" { // of which upstream's chain takes no notice
				packets = append(packets, packet{"peer", "fd00:1::2", "fe80::51", "fd00:1::2"})
			}
			if backend == "" {
				packets = append(packets,
					packet{"outside", "10.1.0.2", "203.0.113.2", "10.1.0.2"},
					packet{"outside", "fd00:1::2", "2001:db8::2", "fd00:1::2"},
					packet{"peer", "10.1.0.2", "198.51.100.9", "10.1.0.2"})
			} else {
				packets = append(packets,
					packet{"outside", "10.1.0.2", "203.0.113.2", "203.0.113.1"},
					packet{"outside", "fd00:1::2", "2001:db8::2", "2001:db8::1"},
					packet{"peer", "10.1.0.2", "198.51.100.9", "10.1.0.1"}) // so bridged packets do meet the rules
			}
			var counts []func() string
			for _, p := range packets {
				counts = append(counts, h.watch(p.station, p.source, p.to))
			}
			for i, p := range packets {
				h.send("guest", p.from, p.to)
				if !eventually(func() bool { return counts[i]() == "1" }) {
					t.Errorf("%s: %s packets from %s to %s arrived as from %s, want 1\n%s", p.station, counts[i](), p.from, p.to, p.source, h.rules())
				}
			}
			h.sh("ip link set guest nomaster; ip link set peer nomaster")
			n.remove(v)
		})
	}
}

// eventually waits for something that takes the kernel a moment.
func eventually(done func() bool) bool {
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
