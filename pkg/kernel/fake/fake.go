// Package fake is a model of the kernel in memory, for tests that need no root.
// It does what the real one does, as far as package kerneltest asks both.
package fake

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const (
	maxPorts   = 1023
	minMTU     = 68
	minIPv6MTU = 1280
	defaultMTU = 1500
)

// Kernel is a host's network namespace, and those of VMMs, without a kernel.
type Kernel struct {
	mu          sync.Mutex
	links       map[int]*link
	netns       []string // paths of other namespaces
	next        int      // index of the next link
	sysctls     map[string]string
	masquerades []linkspec.Masquerade
	noVLANs     bool
	lock        chan struct{} // holds a token while it is free
}

// link is a link and what cannot be seen from outside.
type link struct {
	linkspec.Link
	master   *link
	peer     *link // the other end of a veth pair
	splice   *link
	shortcut *link
	isDraft  bool // goes with the process
	isMTUSet bool // the bridge does not follow its ports' MTU
	isMACSet bool // the bridge does not follow its ports' MAC address
	static   map[string]*link
	routes   []netip.Prefix  // by hand
	filters  bool            // a bridge: tells VLANs apart
	vlans    []linkspec.VLAN // of a port, or of the bridge itself, whether it filters or not
	below    *link           // a VLAN device, or an upper one
}

// New returns a namespace that holds the loopback device, and the parameters
// that every kernel has.
func New() *Kernel {
	k := &Kernel{
		links: map[int]*link{},
		sysctls: map[string]string{
			"net.ipv4.ip_forward":          "0",
			"net.ipv4.conf.all.forwarding": "0",
			"net.ipv6.conf.all.forwarding": "0",
		},
		lock: make(chan struct{}, 1),
	}
	k.lock <- struct{}{}
	k.Add(linkspec.Link{Name: "lo", MTU: new(65536), MAC: make(net.HardwareAddr, 6)})
	return k
}

// Add makes a link as an administrator would, with the declared fields and the
// kernel's defaults for all others. The bridge that it is a port of must exist.
// A bridge follows its ports' MTU and MAC address.
func (k *Kernel) Add(l linkspec.Link) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.add(l.Name, l.Kind)
	n.Netns, l.Netns = l.Netns, ""
	n.isMACSet = false
	if l.Kind == linkspec.Tap {
		n.Owner, n.Group, n.MultiQueue, n.Persist = orDefault(l.Owner, linkspec.NoID), orDefault(l.Group, linkspec.NoID), orDefault(l.MultiQueue, false), new(true)
	}
	l.Owner, l.Group, l.MultiQueue = nil, nil, nil
	if err := k.set(n, l); err != nil {
		panic(fmt.Sprintf("fake: add %s: %v", l.Name, err))
	}
	n.isMTUSet = false
}

// Remove deletes a link as an administrator would. It need not exist.
func (k *Kernel) Remove(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n, err := k.find(name); err == nil {
		k.remove(n)
	}
}

// Edit changes what is known of a link, past every check: its name, the owner
// of a tap, an address that failed duplicate address detection. The bridge that
// it is a port of cannot be changed this way.
func (k *Kernel) Edit(name string, edit func(*linkspec.Link)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, err := k.find(name)
	if err != nil {
		panic("fake: edit " + name + ": no such link")
	}
	edit(&n.Link)
	k.follow(n.master)
}

// Bind adds a static entry to the forwarding database of a bridge.
func (k *Kernel) Bind(bridge string, mac net.HardwareAddr, port string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := k.findBridge(bridge)
	if err != nil {
		panic("fake: bind: no such bridge as " + bridge)
	}
	p, err := k.find(port)
	if err != nil || p.master != b {
		panic("fake: bind: no such port as " + port)
	}
	b.static[mac.String()] = p
}

// Exit does what the kernel does when the process ends: taps that were not kept
// are deleted, and the lock is free.
func (k *Kernel) Exit() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range k.links {
		if n.isDraft && n.Kind == linkspec.Tap {
			k.remove(n)
		}
	}
	select {
	case k.lock <- struct{}{}:
	default:
	}
}

// Snapshot is all there is, as text, in the same order each time.
func (k *Kernel) Snapshot() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var links []string
	for _, n := range k.links {
		text := n.observe().String()
		if n.Shaping != nil {
			text += linkspec.Link{Name: n.Name, Shaping: n.Shaping}.String()
		}
		if n.isDraft && n.Kind == linkspec.Tap {
			text += "    not kept\n"
		}
		for _, mac := range slices.Sorted(maps.Keys(n.static)) {
			text += "    static " + mac + " " + n.static[mac].Name + "\n"
		}
		links = append(links, text)
	}
	slices.Sort(links)
	text := strings.Join(links, "")
	for _, key := range slices.Sorted(maps.Keys(k.sysctls)) {
		text += "sysctl " + key + " = " + k.sysctls[key] + "\n"
	}
	for _, m := range k.masquerades {
		text += m.String()
	}
	if len(k.lock) == 0 {
		text += "locked\n"
	}
	return text
}

// Lock waits as long as the context allows.
func (k *Kernel) Lock(ctx context.Context) (unlock func(), err error) {
	select {
	case <-k.lock:
		return sync.OnceFunc(func() { k.lock <- struct{}{} }), nil
	default:
	}
	select {
	case <-k.lock:
		return sync.OnceFunc(func() { k.lock <- struct{}{} }), nil
	case <-ctx.Done():
		return nil, cnierr.New(cnierr.TryAgain, "try again", "lock: %w", ctx.Err())
	}
}

// Sysctl knows the parameters that every kernel has, and those of IPv6 that
// each link has.
func (k *Kernel) Sysctl(key string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if field := k.parameter(key); field != nil {
		return *field, nil
	}
	if value, ok := k.sysctls[key]; ok {
		return value, nil
	}
	return "", fmt.Errorf("sysctl %s: %w", key, fs.ErrNotExist)
}

// SetSysctl sets a parameter that Sysctl knows.
func (k *Kernel) SetSysctl(key, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n, name := k.parameterOf(key); n != nil {
		switch name {
		case "disable_ipv6":
			n.IPv6 = new(value == "0")
		case "accept_ra":
			n.AcceptRA = new(value != "0")
		case "forwarding":
			n.Forwarding = new(value != "0")
		default:
			n.ARPIgnore = new(value != "0")
		}
		return nil
	}
	if _, ok := k.sysctls[key]; !ok {
		return fmt.Errorf("sysctl %s: %w", key, fs.ErrNotExist)
	}
	k.sysctls[key] = value
	if key == "net.ipv4.ip_forward" {
		for _, n := range k.links {
			n.Forwarding = new(value != "0")
		}
	}
	return nil
}

// parameter is the value of net.ipvN.conf.LINK.*, nil for any other key.
func (k *Kernel) parameter(key string) *string {
	n, name := k.parameterOf(key)
	switch {
	case n == nil:
		return nil
	case name == "disable_ipv6":
		return new(digit(!*n.IPv6))
	case name == "arp_ignore":
		return new(digit(*n.ARPIgnore))
	case name == "forwarding":
		return new(digit(*n.Forwarding))
	}
	return new(digit(*n.AcceptRA))
}

func (k *Kernel) parameterOf(key string) (n *link, name string) {
	part := strings.Split(key, ".")
	if len(part) != 5 || part[0] != "net" || part[2] != "conf" {
		return nil, ""
	}
	n, err := k.find(part[3])
	if err != nil || n.Name != part[3] {
		return nil, ""
	}
	switch parameter := part[1] + " " + part[4]; parameter {
	case "ipv6 disable_ipv6", "ipv6 accept_ra":
		if *n.MTU < minIPv6MTU {
			return nil, ""
		}
		return n, part[4]
	case "ipv4 arp_ignore", "ipv4 forwarding":
		return n, part[4]
	}
	return nil, ""
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func orDefault[T any](p *T, value T) *T {
	if p != nil {
		return new(*p)
	}
	return &value
}
