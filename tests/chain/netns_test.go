package chain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
)

// awayTap makes the tap in CNI_NETNS.
var awayTap = tap.with(conf{"placement": "netns"})

// away is the usual chain for a VMM that runs in CNI_NETNS.
func (h *host) away(more conf) *network {
	return h.network("lab", newest, awayTap, gateway.with(more))
}

// inside returns the links in the namespace that VMs without one of their own share.
func (h *host) inside() []*link { return h.linksBy("ip -n " + filepath.Base(h.guests)) }

// guestNIC is what runtimes that start the VMM in CNI_NETNS take out of a result, by
// the rules of firecracker-go-sdk: one interface in the sandbox of the VM, one other of
// the same name, in a namespace that opens, and one address for the first.
type guestNIC struct{ tap, netns, mac, address, gateway string }

func (h *host) parsed(r *types100.Result, v vm) (nic guestNIC) {
	h.t.Helper()
	guest := -1
	for i, in := range r.Interfaces {
		if in.Sandbox == v.id {
			if guest >= 0 {
				h.t.Errorf("two interfaces are the guest's: %v", r.Interfaces)
			}
			guest = i
		}
	}
	if guest < 0 {
		h.t.Fatalf("no interface is the guest's: %v", r.Interfaces)
	}
	nic.tap, nic.mac = r.Interfaces[guest].Name, r.Interfaces[guest].Mac
	taps := 0
	for i, in := range r.Interfaces {
		if i != guest && in.Name == nic.tap {
			nic.netns = in.Sandbox
			taps++
		}
	}
	if taps != 1 {
		h.t.Errorf("%d interfaces go with the guest's: %v", taps, r.Interfaces)
	}
	if err := h.do(func() error { _, err := os.Stat(nic.netns); return err }); err != nil {
		h.t.Errorf("the tap's namespace: %v", err)
	}
	ips := 0
	for _, ip := range r.IPs {
		switch {
		case ip.Interface == nil:
			h.t.Errorf("%v is on no interface", ip)
		case *ip.Interface == guest:
			nic.address, nic.gateway = ip.Address.String(), ip.Gateway.String()
			ips++
		}
	}
	if ips != 1 && len(r.IPs) > 0 {
		h.t.Errorf("%d addresses are the guest's, want 1: %v", ips, r.IPs)
	}
	read, err := vmconf.Parse(r, vmconf.Attachment{ContainerID: v.id, IfName: v.ifname, Netns: v.netns})
	if err != nil || read.Tap != nic.tap || read.Netns != nic.netns || read.MAC.String() != nic.mac {
		h.t.Errorf("pkg/vmconf reads %+v, error %v, want %+v", read, err, nic)
	}
	return nic
}

// The tap is in the VMM's namespace, its port on the bridge, and both are as they
// should be.
func TestNetnsAdd(t *testing.T) {
	for _, version := range since("0.3.0") {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", version, awayTap.with(conf{"owner": 64055, "group": 109}), dual.with(conf{"hairpinMode": true, "portIsolation": true}))
			v := h.vm("vm1")
			r := n.add(v)
			nic := h.parsed(r, v)
			if nic.tap != v.ifname || nic.netns != v.netns || nic.address != "10.1.0.2/16" || nic.gateway != "10.1.0.1" {
				t.Errorf("result says %+v", nic)
			}
			var shape []string
			for _, in := range r.Interfaces {
				shape = append(shape, in.Name+"@"+in.Sandbox)
			}
			port := r.Interfaces[3].Name
			if want := []string{"br0@", "eth0@" + v.netns, "eth0@vm1", port + "@"}; !slices.Equal(shape, want) {
				t.Errorf("interfaces are %v, want %v", shape, want)
			}
			if len(r.IPs) != 2 || *r.IPs[1].Interface != 1 || r.IPs[1].Address.String() != "fd00:1::2/64" {
				t.Errorf("ips are %v", r.IPs)
			}
			l := h.link(port)
			if l == nil || l.Master != "br0" || !l.up() || !l.Info.Port.Hairpin || !l.Info.Port.Isolated || l.MAC != "fe"+nic.mac[2:] || l.Alias != "microvm-cni:lab/vm1/eth0 shortcut" || l.Group != "default" {
				t.Errorf("port is %+v", l)
			}
			inside := h.inside()
			if len(inside) != 2 {
				t.Fatalf("%d links in the VMM's namespace, want tap and inner end", len(inside))
			}
			for _, l := range inside {
				if l.Name == nic.tap && (fmt.Sprintf("%s %s", l.Info.Data.User, l.Info.Data.Group) != "64055 109" || l.MAC == nic.mac || !l.Info.Data.Persist) {
					t.Errorf("tap is %+v", l)
				}
				if !l.up() || l.MTU != 1500 || len(l.Addresses) > 0 {
					t.Errorf("%s is %+v", l.Name, l)
				}
			}
			if version >= "0.4.0" {
				n.holds(v)
			}
			n.remove(v)
			h.empty()
		})
	}
}

// The sequence of firecracker-go-sdk, in its version, with all that the runtime says
// in CNI_ARGS.
func TestNetnsLikeFirecracker(t *testing.T) {
	h := newHost(t)
	n := h.network("fc", "1.0.0", awayTap, dual.with(conf{"ipMasq": true}), conf{"type": "loopback"})
	h.fake("loopback", `[ "$CNI_COMMAND" = ADD ] && printf '%s' "$conf" | sed 's/.*"prevResult"://; s/,"type":"loopback"}$//' || true`)
	v := h.vm("vm1")
	v.args = "IgnoreUnknown=1;TC_REDIRECT_TAP_UID=64055;TC_REDIRECT_TAP_GID=109;TC_REDIRECT_TAP_NAME=fctap;MAC=02:00:00:00:00:07"
	for range 2 {
		n.remove(v)
		nic := h.parsed(n.add(v), v)
		if nic != (guestNIC{"fctap", v.netns, "02:00:00:00:00:07", nic.address, "10.1.0.1"}) {
			t.Errorf("result says %+v", nic)
		}
		vmm := h.openIn(v.netns, nic.tap)
		n.holds(v)
		if err := vmm.Close(); err != nil {
			t.Error(err)
		}
		n.remove(v)
		h.empty()
	}
	h.unmasked()
}

// Talos: version 0.4.0, static addresses in CNI_ARGS, and further NICs of the VM
// without any.
func TestNetnsLikeTalos(t *testing.T) {
	h := newHost(t)
	static := gateway.with(conf{"ipam": conf{"type": "static"}, "isDefaultGateway": true, "mtu": 1450})
	n := h.network("talos", "0.4.0", awayTap, static)
	bare := h.network("wire", "0.4.0", awayTap, plain.with(conf{"bridge": "br1", "ipam": conf{}}))
	v := h.vm("3d7a1f0e-7b1b-4ac5-9c4e-0d2c8f1a9b77")
	v.ifname, v.args = "veth0", "IP=10.5.0.2/24,fd05::2/64;GATEWAY=10.5.0.1,fd05::1;IgnoreUnknown=1"
	more := v
	more.ifname, more.args = "veth1", ""
	n.remove(v)
	nic := h.parsed(n.add(v), v)
	if nic.tap != "veth0" || nic.address != "10.5.0.2/24" || nic.gateway != "10.5.0.1" {
		t.Errorf("result says %+v", nic)
	}
	bare.remove(more)
	if second := h.parsed(bare.add(more), more); second.tap != "veth1" || second.mac == nic.mac {
		t.Errorf("result of the second NIC says %+v", second)
	}
	for _, l := range h.inside() {
		if want, ok := map[string]int{"veth0": 1450, "veth1": 1500}[l.Name]; ok && l.MTU != want {
			t.Errorf("%s has MTU %d, want %d", l.Name, l.MTU, want)
		}
	}
	n.holds(v)
	bare.holds(more)
	n.remove(v)
	bare.holds(more)
	bare.remove(more)
	h.empty()
}

// openIn opens the tap as a VMM does that runs in the namespace.
func (h *host) openIn(netns, tap string) (vmm *os.File) {
	h.t.Helper()
	err := h.do(func() error {
		if err := enter(netns); err != nil {
			return err
		}
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(tap)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		vmm = os.NewFile(uintptr(fd), "/dev/net/tun")
		return nil
	})
	if err != nil {
		h.t.Fatalf("open tap %s: %v", tap, err)
	}
	return vmm
}

// enter moves the calling thread, which must end when it is done, to a namespace.
func enter(netns string) error {
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWNET)
}
