//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// cost is what a call took: of a CPU, the kernel's work for it among it, and of the
// time of whoever waits for it.
type cost struct{ cpu, wall time.Duration }

// network is what guests have in common.
type network struct {
	plugins string
	bridge  string // its name, but for the mode
	leases  string // folder of host-local's; "" for no addresses
	access  string // hostAccess, "" for the default
	limit   int    // of a storm, which makes another program of the guard; 0 for the default
}

// attachment is a guest by the bare protocol.
type attachment struct {
	network
	mode, id         string
	mac, tap         string
	previous         json.RawMessage
	took             cost // of the last call
	adding, deleting cost // of microvm-bridge
}

func (a *attachment) add() (err error) {
	if a.mac != "" {
		a.mac = ";MAC=" + a.mac
	}
	if a.previous, err = a.call("microvm-tap", "ADD"); err != nil {
		return err
	}
	if a.previous, err = a.call("microvm-bridge", "ADD"); err != nil {
		return err
	}
	a.adding = a.took
	var result struct {
		Interfaces []struct{ Name, Sandbox string }
	}
	if err = json.Unmarshal(a.previous, &result); err != nil {
		return err
	}
	for _, in := range result.Interfaces {
		if in.Sandbox == a.id {
			a.tap = in.Name
		}
	}
	return nil
}

func (a *attachment) del() error {
	_, err := a.call("microvm-bridge", "DEL")
	a.deleting = a.took
	_, other := a.call("microvm-tap", "DEL")
	return errors.Join(err, other)
}

func (a *attachment) call(plugin, verb string) ([]byte, error) {
	conf := map[string]any{"cniVersion": "1.1.0", "name": "bench", "type": plugin}
	if plugin == "microvm-bridge" {
		conf["bridge"] = a.bridge + "-" + a.mode
		guard := map[string]any{"mode": a.mode}
		if a.limit > 0 && a.mode != "off" {
			guard["stormLimit"] = a.limit
		}
		if a.access != "" && a.mode != "off" {
			guard["hostAccess"] = a.access
		}
		conf["guard"] = guard
		if a.leases != "" {
			conf["ipam"] = map[string]any{"type": "host-local", "dataDir": a.leases, "ranges": [][]map[string]any{{{"subnet": "10.88.0.0/16"}}}}
		}
	}
	if a.previous != nil {
		conf["prevResult"] = a.previous
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(a.plugins, plugin))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+a.id, "CNI_IFNAME=eth0", "CNI_NETNS=/proc/self/ns/net",
		"CNI_ARGS=IgnoreUnknown=1;TAP_NAME="+a.id+a.mac, "CNI_PATH="+a.plugins)
	cmd.Stdin = bytes.NewReader(stdin)
	begin := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", plugin, verb, err, trimmed(out))
	}
	a.took = cost{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall: time.Since(begin)}
	return out, nil
}

// path is a bridge with two guests: frames go from one to the other.
type path struct {
	guests   [2]*attachment
	from, to int // files of the taps
	frame    []byte
}

func newPath(plugins, mode string) (path, error) {
	p := path{frame: frames.Cat(frames.Zeros(vnetSize), frames.Sealed(frames.Eth(frames.NeighbourMAC, frames.GuestMAC, frames.TypeIPv4,
		frames.IP4(frames.Guest4, frames.Neighbour4, frames.ProtoUDP, frames.UDP(1, 2, frames.Zeros(22))))))}
	for i, fd := range []*int{&p.from, &p.to} {
		p.guests[i] = &attachment{network: network{plugins: plugins, bridge: "br"}, mode: mode, id: fmt.Sprintf("%s%d", mode, i), mac: []string{frames.GuestMAC, frames.NeighbourMAC}[i]}
		if err := p.guests[i].add(); err != nil {
			return p, err
		}
		var err error
		if *fd, err = open(p.guests[i].tap); err != nil {
			return p, err
		}
	}
	return p, p.await()
}

func open(tap string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	request, err := unix.NewIfreq(tap)
	if err != nil {
		return -1, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	return fd, unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
}

// await returns when frames pass, and the bridge knows where the receiver is.
func (p path) await() error {
	hello := frames.Cat(frames.Zeros(vnetSize), frames.Eth(frames.GuestMAC, frames.NeighbourMAC, frames.TypeIPv4,
		frames.IP4(frames.Neighbour4, frames.Guest4, frames.ProtoUDP, frames.UDP(2, 1, frames.Zeros(22)))))
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		if _, err := unix.Write(p.to, hello); err != nil {
			return err
		}
		if _, err := unix.Write(p.from, p.frame); err != nil {
			return err
		}
		if p.receive(50*time.Millisecond) == nil {
			for p.receive(50*time.Millisecond) == nil { // what came late
			}
			return nil
		}
	}
	return errors.New("frames do not pass")
}

func (p path) receive(patience time.Duration) error {
	b := make([]byte, 1<<11)
	for start := time.Now(); ; {
		n, err := unix.Read(p.to, b)
		switch {
		case err == nil && bytes.Equal(b[vnetSize:n], p.frame[vnetSize:]):
			return nil
		case err != nil && !errors.Is(err, unix.EAGAIN):
			return err
		case time.Since(start) > patience:
			return errors.New("frames are lost")
		}
	}
}

// batch is fewer frames than the queue of a tap takes, so that none is lost.
const batch = 32

// run returns how many frames a second arrive.
func (p path) run() (float64, error) {
	count := 0
	start := time.Now()
	for time.Since(start) < turn {
		for range batch {
			if _, err := unix.Write(p.from, p.frame); err != nil {
				return 0, err
			}
		}
		for range batch {
			if err := p.receive(time.Second); err != nil {
				return 0, err
			}
		}
		count += batch
	}
	return float64(count) / time.Since(start).Seconds(), nil
}

func (p path) end() error {
	err := errors.Join(unix.Close(p.from), unix.Close(p.to))
	for _, g := range p.guests {
		err = errors.Join(err, g.del())
	}
	return err
}
