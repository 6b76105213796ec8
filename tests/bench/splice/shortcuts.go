//go:build linux

package main

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/splice"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/bench/netns"
)

// shortcut redirects what the port transmits to an upper device of the tap.
func shortcut(r *rig, p pair) error { return shorten(r, p, splice.InstallShortcut) }

// filteredShortcut is shortcut on Linux before 6.6.
func filteredShortcut(r *rig, p pair) error {
	return shorten(r, p, func(port, upper int) error { return filter(port, tc.Egress, asm.FnRedirect, upper) })
}

func shorten(r *rig, p pair, install func(port, upper int) error) error {
	name := r.name("up")
	err := p.vmm.Do(func() error {
		return splice.CreateUpper(name, p.tap.Attrs().Index, int(r.host.File.Fd()))
	})
	if err != nil {
		return err
	}
	return r.host.Do(func() error {
		upper, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(upper), install(p.port.Attrs().Index, upper.Attrs().Index))
	})
}

// netkit is a pair whose program runs when a frame is transmitted (Linux 6.7).
func netkit(changes ...change) connect {
	return func(r *rig, vmm netns.Namespace, bridge netlink.Link) (int, error) {
		p := pair{vmm: vmm}
		device := &netlink.Netkit{
			LinkAttrs: netlink.LinkAttrs{Name: r.name("in")}, Mode: netlink.NETKIT_MODE_L2,
			Policy: netlink.NETKIT_POLICY_FORWARD, PeerPolicy: netlink.NETKIT_POLICY_FORWARD,
		}
		peer := netlink.NewLinkAttrs()
		peer.Name, peer.Namespace = r.name("port"), netlink.NsFd(r.host.File.Fd())
		device.SetPeerAttrs(&peer)
		fd, err := r.connectPair(&p, device, peer.Name, bridge)
		for _, c := range append([]change{netkitPrograms}, changes...) {
			if err == nil {
				err = c(r, p)
			}
		}
		return fd, err
	}
}

func netkitPrograms(r *rig, p pair) error {
	return p.vmm.Do(func() error {
		tap, inner := p.tap.Attrs().Index, p.inner.Attrs().Index
		out, err := redirect(ebpf.SchedCLS, ebpf.AttachNone, asm.FnRedirectPeer, inner)
		if err != nil {
			return err
		}
		at := tcbpf.Filter{Link: tap, Hook: tc.Ingress, Priority: 1, Name: "netkit"}
		if err = at.Attach(out); err != nil {
			return err
		}
		// Programs of both ends are attached to the first that was made.
		in, err := redirect(ebpf.SchedCLS, ebpf.AttachNetkitPeer, asm.FnRedirect, tap)
		if err != nil {
			return err
		}
		l, err := link.AttachNetkit(link.NetkitOptions{Interface: inner, Program: in, Attach: ebpf.AttachNetkitPeer})
		r.keepAlive = append(r.keepAlive, l)
		return err
	})
}
