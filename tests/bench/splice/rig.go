//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/bench/netns"
)

// rig is a host and two namespaces of VMMs.
type rig struct {
	host      netns.Namespace
	vmms      [2]netns.Namespace
	keepAlive []any // links of BPF programs, which end when they are closed
	devices   int
}

// path is a way for frames: a bridge, and a tap at each end.
type path struct {
	from, to int // files of the taps
	sizes    map[string][]byte
}

var macs = [2]net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}

func newRig() (*rig, error) {
	r := &rig{}
	for _, n := range []*netns.Namespace{&r.host, &r.vmms[0], &r.vmms[1]} {
		var err error
		if *n, err = netns.New(); err != nil {
			return nil, err
		}
		if err = n.Do(quiet); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// quiet lets devices send nothing by themselves, and keeps netfilter out of bridges.
func quiet() error {
	for file, value := range map[string]string{
		"ipv6/conf/default/disable_ipv6": "1", "bridge/bridge-nf-call-iptables": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// newPath makes a bridge with both ends connected to it in the given ways.
func (r *rig) newPath(from, to connect) (path, error) {
	p := path{sizes: map[string][]byte{}}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: r.name("br")}, MulticastSnooping: new(false)} // it would send reports
	if err := r.host.Do(func() error { return errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge)) }); err != nil {
		return p, fmt.Errorf("make bridge: %w", err)
	}
	var err error
	if p.from, err = from(r, r.vmms[0], bridge); err != nil {
		return p, fmt.Errorf("connect sender: %w", err)
	}
	if p.to, err = to(r, r.vmms[1], bridge); err != nil {
		return p, fmt.Errorf("connect receiver: %w", err)
	}
	p.sizes["64"] = frame(64)
	p.sizes["1500"] = frame(1514)
	p.sizes["gso"] = gsoFrame(64000)
	return p, p.await()
}

// await returns when frames pass, and the bridge knows where the receiver is.
func (p path) await() error {
	hello := frame(64)
	copy(hello[vnetHeader:], append(slices.Clone(macs[0]), macs[1]...))
	buf := make([]byte, 1<<17)
	var err error
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		_, _ = unix.Write(p.to, hello)
		_, _ = unix.Write(p.from, p.sizes["64"])
		if _, err = p.read(buf); err == nil {
			_, err = unix.Read(p.from, buf)
		}
		if err == nil {
			break
		}
	}
	for _, fd := range []int{p.from, p.to} {
		for err == nil {
			if _, drained := unix.Read(fd, buf); drained != nil {
				break
			}
		}
	}
	return err
}

func (r *rig) name(prefix string) string {
	r.devices++
	return fmt.Sprintf("%s%d", prefix, r.devices)
}

const vnetHeader = 10

// frame is an IPv4 frame of n bytes behind an empty virtio header.
func frame(n int) []byte {
	f := make([]byte, vnetHeader+n)
	e := f[vnetHeader:]
	copy(e, macs[1])
	copy(e[6:], macs[0])
	copy(e[12:], []byte{0x08, 0x00, 0x45, 0, byte((n - 14) >> 8), byte(n - 14), 0, 0, 0x40, 0, 64, 253})
	copy(e[26:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(e[24:], ^fold(e[14:34]))
	return f
}

// fold is the sum of the words, as the Internet's checksum counts.
func fold(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// gsoFrame is n bytes of TCP to be cut into segments of 1448 bytes, as a guest
// hands it out: with a checksum that is still to be computed.
func gsoFrame(n int) []byte {
	f := frame(n)
	f[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
	f[1] = unix.VIRTIO_NET_HDR_GSO_TCPV4
	f[2] = 54                       // length of the headers
	f[4], f[5] = 1448&0xff, 1448>>8 // segment
	f[6] = 34                       // where TCP begins
	f[8] = 16                       // where its checksum goes
	e := f[vnetHeader:]
	e[23] = unix.IPPROTO_TCP
	e[24], e[25] = 0, 0
	binary.BigEndian.PutUint16(e[24:], ^fold(e[14:34]))
	e[46] = 5 << 4
	e[47] = 0x10
	return f
}

// newTap makes a tap in the thread's namespace, up, as a VMM opens it.
func newTap(name string) (int, netlink.Link, error) {
	fd, err := openTap(name)
	if err != nil {
		return -1, nil, err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return -1, nil, err
	}
	return fd, link, netlink.LinkSetUp(link)
}

// openTap opens a tap of the thread's namespace as a VMM does, and makes it if it is
// not there.
func openTap(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return -1, fmt.Errorf("open tap %s: %w", name, err)
	}
	if err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
		return -1, fmt.Errorf("set offloads of tap %s: %w", name, err)
	}
	return fd, nil
}
