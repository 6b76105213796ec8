package fake

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Link returns the link that has the name, or the alternative name.
func (k *Kernel) Link(name string) (linkspec.Link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, err := k.find(name)
	if err != nil {
		return linkspec.Link{}, err
	}
	return n.observe(), nil
}

// Links returns all links, without what a dump does not tell.
func (k *Kernel) Links() ([]linkspec.Link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list(func(*link) bool { return true }), nil
}

// Ports returns the ports of the bridge, without what a dump does not tell.
func (k *Kernel) Ports(bridge string) ([]linkspec.Link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := k.find(bridge)
	if err != nil {
		return nil, err
	}
	return k.list(func(n *link) bool { return n.master == b }), nil
}

// AnyPort tells whether ok takes one of them.
func (k *Kernel) AnyPort(bridge string, ok func(linkspec.Link) bool) (bool, error) {
	ports, err := k.Ports(bridge)
	return slices.ContainsFunc(ports, ok), err
}

func (k *Kernel) list(pick func(*link) bool) []linkspec.Link {
	var list []linkspec.Link
	for index := range k.next {
		if n := k.links[index]; n != nil && n.Netns == "" && pick(n) {
			l := n.observe()
			l.Addresses, l.IPv6, l.AcceptRA, l.ARPIgnore, l.Forwarding, l.VLANs, l.Carried, l.Stations = nil, nil, nil, nil, nil, nil, nil, nil
			list = append(list, l)
		}
	}
	return list
}

// find returns the link of the host that has the name, or the alternative name.
func (k *Kernel) find(name string) (*link, error) { return k.findIn("", name) }

func (k *Kernel) findBridge(name string) (*link, error) {
	n, err := k.find(name)
	if err == nil && n.Kind != linkspec.Bridge {
		return nil, fmt.Errorf("link %s: no bridge", name)
	}
	return n, err
}

// add makes a link with the kernel's defaults.
func (k *Kernel) add(name string, kind linkspec.Kind) *link {
	n := &link{isMACSet: true, static: map[string]*link{}}
	n.Kind, n.Name, n.Index = kind, name, k.next
	n.Alias, n.Up, n.Promisc, n.Disabled = new(""), new(false), new(false), new(false)
	n.MTU, n.TxQueueLen = new(defaultMTU), new(1000)
	n.MAC = net.HardwareAddr{0x02, 0, 0, 0, byte(k.next >> 8), byte(k.next)}
	n.IPv6, n.AcceptRA, n.ARPIgnore = new(true), new(true), new(false)
	n.Forwarding = new(k.sysctls["net.ipv4.ip_forward"] != "0")
	if n.Kind == linkspec.Bridge && !k.noVLANs {
		n.DefaultPVID, n.vlans = defaultVLAN, defaultVLANs()
	}
	k.links[k.next] = n
	k.next++
	return n
}

// remove deletes a link, and its peer. The ports of a bridge are then on none.
func (k *Kernel) remove(n *link) {
	k.leave(n)
	if n.peer != nil {
		n.peer.peer = nil
		k.remove(n.peer)
	}
	for _, port := range k.links {
		if port.master == n {
			k.leave(port)
		}
	}
	for _, tap := range k.links { // or port
		if tap.splice == n {
			tap.splice = nil
		}
		if tap.shortcut == n {
			tap.shortcut = nil
		}
	}
	delete(k.links, n.Index)
	for _, upper := range k.links {
		if upper.below == n {
			k.remove(upper)
		}
	}
}

// leave takes a port off its bridge.
func (k *Kernel) leave(n *link) {
	bridge := n.master
	if bridge == nil {
		return
	}
	n.master, n.vlans = nil, nil
	for _, flag := range n.PortFlags() {
		*flag = nil
	}
	n.Disabled = new(false)
	for mac, port := range bridge.static {
		if port == n {
			delete(bridge.static, mac)
		}
	}
	k.follow(bridge)
}

// join puts a link on a bridge.
func (k *Kernel) join(n, bridge *link) error {
	ports := 0
	for _, other := range k.links {
		if other.master == bridge {
			ports++
		}
	}
	switch {
	case n.Kind == linkspec.Bridge:
		return errors.New("a bridge cannot be a port")
	case ports >= maxPorts:
		return full(bridge.Name)
	}
	n.master, n.vlans = bridge, defaultVLANs()
	for _, flag := range n.PortFlags() {
		*flag = new(false)
	}
	n.Learning, n.UnicastFlood, n.BroadFlood, n.McastFlood = new(true), new(true), new(true), new(true)
	n.McastRouter = new(true)
	k.follow(bridge)
	return nil
}

// follow gives a bridge the lowest MAC address and MTU of its ports, unless they
// were set.
func (k *Kernel) follow(bridge *link) {
	if bridge == nil {
		return
	}
	mtu, mac := defaultMTU, net.HardwareAddr(nil)
	first := true
	for index := range k.next {
		port := k.links[index]
		if port == nil || port.master != bridge {
			continue
		}
		if first || *port.MTU < mtu {
			mtu = *port.MTU
		}
		if first || bytes.Compare(port.MAC, mac) < 0 {
			mac = port.MAC
		}
		first = false
	}
	if !bridge.isMTUSet {
		bridge.MTU = new(mtu)
	}
	if !bridge.isMACSet && mac != nil {
		bridge.MAC = mac
	}
}

// observe returns a copy of the link that shares nothing with it.
func (n *link) observe() linkspec.Link {
	l := n.Link
	l.Role = linkspec.Observed
	l.Shaping = nil // observed only where it is asked for
	l.Alias, l.MTU, l.TxQueueLen, l.Promisc, l.Up = dup(l.Alias), dup(l.MTU), dup(l.TxQueueLen), dup(l.Promisc), dup(l.Up)
	l.IPv6, l.AcceptRA, l.ARPIgnore, l.Forwarding = dup(l.IPv6), dup(l.AcceptRA), dup(l.ARPIgnore), dup(l.Forwarding)
	l.Owner, l.Group, l.MultiQueue, l.Persist = dup(l.Owner), dup(l.Group), dup(l.MultiQueue), dup(l.Persist)
	for _, flag := range l.PortFlags() {
		*flag = dup(*flag)
	}
	l.Disabled = dup(l.Disabled)
	l.Guard = nil // to be asked for
	if n.master != nil && l.Binds() {
		l.Stations = n.stations()
	}
	l.AltNames, l.MAC, l.Addresses = slices.Clone(l.AltNames), slices.Clone(l.MAC), slices.Clone(l.Addresses)
	l.Master = new("")
	if n.master != nil {
		l.Master = new(n.master.Name)
	}
	n.observeVLANs(&l)
	if *l.MTU < minIPv6MTU { // the kernel takes IPv6 off the device
		l.IPv6, l.AcceptRA = new(false), new(false)
	}
	n.observeShortcut(&l)
	return l
}

func dup[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// Holder returns the name of the port or bridge that has the address.
func (k *Kernel) Holder(bridge string, mac net.HardwareAddr) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := k.findBridge(bridge)
	if err != nil {
		return "", err
	}
	if port := b.static[mac.String()]; port != nil {
		return port.Name, nil
	}
	for index := range k.next {
		if n := k.links[index]; n != nil && (n == b || n.master == b) && bytes.Equal(n.MAC, mac) {
			return n.Name, nil
		}
	}
	return "", nil
}

// Create makes a tap, a bridge, an ifb, VLAN or upper device or a veth pair, down.
func (k *Kernel) Create(l linkspec.Link) (linkspec.Draft, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains([]linkspec.Kind{linkspec.Tap, linkspec.Bridge, linkspec.IFB, linkspec.Veth, linkspec.VLANDevice, linkspec.Upper}, l.Kind) {
		return nil, fmt.Errorf("create %s: links of kind %q are not made here", l.Name, l.Kind)
	}
	reserved := slices.Contains([]string{"", ".", "..", "all", "default"}, l.Name)
	if reserved || len(l.Name) > attachment.MaxName || strings.ContainsAny(l.Name, "%/: \t\n") {
		return nil, fmt.Errorf("%q cannot be the name of a device", l.Name)
	}
	if err := k.enter(l.Netns); err != nil {
		return nil, err
	}
	if _, err := k.findIn(l.Netns, l.Name); err == nil {
		return nil, fmt.Errorf("create %s: %w", l.Name, fs.ErrExist)
	}
	below, err := k.beneath(l)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", l.Name, err)
	}
	n, err := k.make(l)
	if err != nil {
		return nil, err
	}
	n.isDraft, n.below = true, below
	n.filters = l.VLANFiltering != nil && *l.VLANFiltering
	if l.Kind == linkspec.Tap {
		n.Owner, n.Group = orDefault(l.Owner, linkspec.NoID), orDefault(l.Group, linkspec.NoID)
		n.MultiQueue, n.Persist = orDefault(l.MultiQueue, false), new(false)
	} else if l.Alias != nil {
		n.Alias = new(*l.Alias)
	}
	switch l.Kind {
	case linkspec.Upper:
		n.Deaf = new(true)
	case linkspec.VLANDevice:
		n.VLANID, n.MTU, n.MAC = new(*l.VLANID), new(*below.MTU), below.MAC
	}
	return &draft{k: k, n: n}, nil
}

func (k *Kernel) make(l linkspec.Link) (*link, error) {
	if l.Kind == linkspec.Veth {
		return k.addVeth(l)
	}
	n := k.add(l.Name, l.Kind)
	n.Netns = l.Netns
	return n, nil
}

// draft is a link that was created and not kept yet.
type draft struct {
	k *Kernel
	n *link
}

// Keep makes the link outlive the process.
func (d *draft) Keep() error {
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	d.n.isDraft = false
	if d.n.Kind == linkspec.Tap {
		d.n.Persist = new(true)
	}
	return nil
}

// Discard deletes the link, unless it was kept.
func (d *draft) Discard() error {
	d.k.mu.Lock()
	defer d.k.mu.Unlock()
	if d.n.isDraft && d.k.links[d.n.Index] == d.n {
		d.k.remove(d.n)
	}
	return nil
}

// Delete deletes observed links. A link that is gone already is no error.
func (k *Kernel) Delete(links ...linkspec.Link) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range links {
		if n := k.links[l.Index]; n != nil {
			k.remove(n)
		}
	}
	return nil
}
