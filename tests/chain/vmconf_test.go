package chain

import (
	"fmt"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
)

// nic reads what ADD answered as a runtime would.
func (n *network) nic(v vm) *vmconf.NIC {
	n.h.t.Helper()
	r, err := n.tryAdd(v)
	if err != nil {
		n.h.t.Fatalf("ADD %s: %v", v.id, err)
	}
	nic, err := vmconf.Parse(r, vmconf.Attachment{ContainerID: v.id, IfName: v.ifname, Netns: v.netns})
	if err != nil {
		n.h.t.Fatalf("read the result of %s: %v", v.id, err)
	}
	return nic
}

// told is a NIC in short.
func told(n *vmconf.NIC) string {
	var b strings.Builder
	for _, a := range n.Addresses {
		fmt.Fprintf(&b, "%s via %s, ", a.Prefix, a.Gateway)
	}
	for _, r := range n.Routes {
		fmt.Fprintf(&b, "%s to %s, ", r.Dst, r.Via)
	}
	fmt.Fprintf(&b, "DNS %v %s %v %v", n.DNS.Nameservers, n.DNS.Domain, n.DNS.Search, n.DNS.Options)
	return b.String()
}

// What vmconf reads out of results of real chains is what the host has.
func TestVMConf(t *testing.T) {
	full := dual.with(conf{
		"isDefaultGateway": true,
		"dns":              conf{"nameservers": []string{"10.1.0.1"}, "domain": "lab.test", "search": []string{"a.test"}, "options": []string{"ndots:2"}},
	})
	const addresses = "10.1.0.2/16 via 10.1.0.1, fd00:1::2/64 via fd00:1::1, "
	const everything = addresses + "0.0.0.0/0 to 10.1.0.1, ::/0 to fd00:1::1, DNS [10.1.0.1] lab.test [a.test] [ndots:2]"
	portmap := conf{"type": "portmap", "capabilities": conf{"portMappings": true}}
	firewall := conf{"type": "firewall", "backend": "iptables"}
	for _, c := range []struct {
		name, args string
		own        bool // the VM is known by the host's namespace
		plugins    []conf
		want       string
	}{
		{"the usual", "", false, []conf{tap, full}, everything},
		{"a tap with a name", "TAP_NAME=vm1", false, []conf{tap, full}, everything},
		{"a tap named CNI_IFNAME", "TAP_NAME=eth0", false, []conf{tap, full}, everything},
		{"the host's namespace", "", true, []conf{tap, full}, everything},
		{"portmap and firewall", "", false, []conf{tap, full, portmap, firewall}, everything},
		{"no addresses", "", false, []conf{tap, plain}, "DNS []  [] []"},
		{"no bridge", "", false, []conf{tap}, "DNS []  [] []"},
	} {
		for _, version := range since("0.3.0") {
			if len(c.plugins) > 2 && version < "0.4.0" {
				continue // firewall
			}
			t.Run(c.name+" "+version, func(t *testing.T) {
				h := newHost(t)
				n := h.network("lab", version, c.plugins...)
				v := h.mapped("vm1", c.own, 8081)
				v.ifname, v.args = "eth0", c.args
				nic := n.nic(v)
				link := h.link(nic.Tap)
				if link == nil || link.Info.Data.Type != "tap" {
					t.Fatalf("tap is %s, which the host does not have: %v", nic.Tap, h.made())
				}
				if got := told(nic); got != c.want || nic.Netns != "" {
					t.Errorf("got  %s in %q\nwant %s", got, nic.Netns, c.want)
				}
				if link.MAC != "fe"+nic.MAC.String()[2:] {
					t.Errorf("guest's MAC is %s, the tap's %s", nic.MAC, link.MAC)
				}
				h.mtu(nic, link.MTU, version == newest)
				n.remove(v)
			})
		}
	}
}

// mtu fails the test unless the NIC's MTU is that of the tap, if it is known at
// all, and the live tap says so, too.
func (h *host) mtu(nic *vmconf.NIC, want int, known bool) {
	h.t.Helper()
	if (nic.MTU == want) != known || !known && nic.MTU != 0 {
		h.t.Errorf("MTU is %d, the tap's is %d, and known: %v", nic.MTU, want, known)
	}
	err := h.do(func() error {
		got, err := vmconf.TapMTU(nic.Tap, nic.Netns)
		if err == nil && got != want {
			err = fmt.Errorf("MTU of the live tap is %d, want %d", got, want)
		}
		return err
	})
	if err != nil {
		h.t.Error(err)
	}
}

// tuning in the host's namespace, where CNI_IFNAME is the tap.
func TestVMConfAfterTuning(t *testing.T) {
	override(t)
	h := newQuietHost(t)
	n := h.network("lab", newest, tap, gateway, conf{"type": "tuning", "promisc": true, "txQLen": 500})
	v := vm{id: "vm1", ifname: "vmtap7", netns: h.Path()}
	nic := n.nic(v)
	link := h.link("vmtap7")
	if nic.Tap != "vmtap7" || link.TxQueue != 500 || "fe"+nic.MAC.String()[2:] != link.MAC {
		t.Errorf("got %+v, the tap is %+v", nic, link)
	}
	n.remove(v)
}

// Several NICs of one VM, each with its own result.
func TestVMConfOfSeveralNICs(t *testing.T) {
	h := newHost(t)
	lab := h.pair(nil)
	side := h.network("side", newest, tap, conf{"type": "microvm-bridge", "bridge": "br1", "ipam": conf{}})
	eth0 := h.vm("vm1")
	eth1 := eth0
	eth1.ifname = "eth1"
	a, b := lab.nic(eth0), side.nic(eth1)
	if a.Tap == b.Tap || a.MAC.String() == b.MAC.String() || len(a.Addresses) != 1 || len(b.Addresses) != 0 {
		t.Errorf("got %+v and %+v", a, b)
	}
	if _, err := vmconf.CloudInit(map[string]*vmconf.NIC{"eth0": a, "eth1": b}); err != nil {
		t.Error(err)
	}
	lab.remove(eth0)
	side.remove(eth1)
}
