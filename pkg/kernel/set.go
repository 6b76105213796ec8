package kernel

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// maxMTU is the longest MTU of a bridge, in bytes (ETH_MAX_MTU).
const maxMTU = 65535

// MaxPorts is how many ports a bridge holds: port numbers have ten bits, and 0
// is none (BR_MAX_PORTS, net/bridge/br_private.h).
const MaxPorts = 1023

// Set gives the declared fields of change to an observed link.
func (k *Kernel) Set(l, change linkspec.Link) error {
	at, err := k.in(l.Netns)
	if err == nil {
		err = at.set(l, change)
	}
	if err != nil {
		return missing(l.Key(), err)
	}
	return nil
}

func (k *Kernel) set(l, change linkspec.Link) error {
	if change.Owner != nil || change.Group != nil || change.MultiQueue != nil {
		return cnierr.New(cnierr.Config, "delete the tap and let it be made again",
			"owner, group and multiQueue of a tap can only be set when it is made")
	}
	if change.Parent != nil || change.VLANID != nil {
		return cnierr.New(cnierr.Config, "delete the device and let it be made again",
			"the VLAN of a VLAN device, and the device below, can only be set when it is made")
	}
	if change.Deaf != nil {
		return cnierr.New(cnierr.Config, "delete the device and let it be made again",
			"what an upper device hears can only be set when it is made")
	}
	steps := []func(l, change linkspec.Link) error{
		k.setDown, k.setAltNames, k.setIPv6, k.setIPv4, k.setGuard, k.setAttributes, k.takeOffGuard, k.setNewIPv6, k.setFiltering, k.setPortFlags, k.setVLANs, k.setInVLANs, k.setCarried,
		k.setStations, k.setShaping, k.setAddresses, k.setSplice, k.setUnqueued, k.setShortcut, k.setUp,
	}
	for _, step := range steps {
		if err := step(l, change); err != nil {
			return err
		}
	}
	return nil
}

// setLink begins a request that changes the link of that index.
func setLink(index int, flags, change uint32) *message {
	return newMessage(unix.RTM_SETLINK, 0, ifinfo(unix.AF_UNSPEC, index, flags, change)...)
}

func (k *Kernel) setDown(l, change linkspec.Link) error {
	if change.Up == nil || *change.Up {
		return nil
	}
	return wrap("set down", k.conn.do(setLink(l.Index, 0, unix.IFF_UP)))
}

func (k *Kernel) setUp(l, change linkspec.Link) error {
	if change.Up == nil || !*change.Up {
		return nil
	}
	return wrap("set up", k.conn.do(setLink(l.Index, unix.IFF_UP, unix.IFF_UP)))
}

func (k *Kernel) setAltNames(l, change linkspec.Link) error {
	for _, name := range change.NoAltNames {
		if err := k.removeAltName(l.Index, name); err != nil {
			return fmt.Errorf("remove alternative name %s: %w", name, err)
		}
	}
	for _, name := range change.AltNames {
		if err := k.addAltName(l.Index, name); err != nil {
			return fmt.Errorf("add alternative name %s: %w", name, err)
		}
	}
	return nil
}

func altName(typ uint16, index int, name string) *message {
	m := newMessage(typ, 0, ifinfo(unix.AF_UNSPEC, index, 0, 0)...)
	return m.nest(unix.IFLA_PROP_LIST, func() { m.text(unix.IFLA_ALT_IFNAME, name) })
}

func (k *Kernel) addAltName(index int, name string) error {
	err := k.conn.do(altName(unix.RTM_NEWLINKPROP, index, name))
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	reply, lookup := k.conn.get(getLink(name))
	if lookup != nil {
		return err
	}
	if holder := decodeLink(reply).link; holder.Index == index && holder.Name != name {
		return nil
	}
	return err
}

// removeAltName asks who has the name only when the kernel will not remove it.
func (k *Kernel) removeAltName(index int, name string) error {
	err := k.conn.do(altName(unix.RTM_DELLINKPROP, index, name))
	if err == nil {
		return nil
	}
	if _, gone := k.nameOf(index); gone != nil {
		return gone
	}
	if holder, lookup := k.indexOf(name); errors.Is(lookup, fs.ErrNotExist) || lookup == nil && holder != index {
		return nil
	}
	return err
}

// setAttributes sets all that one request can set, the bridge last: the kernel
// changes the membership after the attributes.
func (k *Kernel) setAttributes(l, change linkspec.Link) error {
	m, err := k.attributes(l, change)
	if err != nil || m == nil {
		return err
	}
	ms := []*message{m}
	if pin := pinMTU(l, change); pin != nil {
		ms = []*message{pin, m}
	}
	for _, err = range k.conn.doAll(ms...) {
		if err != nil {
			break
		}
	}
	if errors.Is(err, unix.EXFULL) {
		return cnierr.New(cnierr.TryAgain,
			"delete VMs of this bridge, or add another bridge: the kernel gives a bridge no more ports",
			"bridge %s is full, it has %d ports: %w", *change.Master, MaxPorts, err)
	}
	return wrap("set attributes", err)
}

// attributes is the request that sets the attributes, nil if none is declared.
func (k *Kernel) attributes(l, change linkspec.Link) (*message, error) {
	var flags, mask uint32
	if change.Promisc != nil {
		mask |= unix.IFF_PROMISC
		if *change.Promisc {
			flags |= unix.IFF_PROMISC
		}
	}
	m := setLink(l.Index, flags, mask)
	empty := len(m.b)
	if change.MAC != nil {
		m.attr(unix.IFLA_ADDRESS, change.MAC)
	}
	if change.MTU != nil {
		m.u32(unix.IFLA_MTU, uint32(*change.MTU))
	}
	if change.Alias != nil {
		m.attr(unix.IFLA_IFALIAS, aliasOf(*change.Alias))
	}
	if change.TxQueueLen != nil {
		m.u32(unix.IFLA_TXQLEN, uint32(*change.TxQueueLen))
	}
	if change.Master != nil {
		index := 0
		if *change.Master != "" {
			var err error
			if index, err = k.indexOf(*change.Master); err != nil {
				return nil, wrap("look up bridge", err)
			}
		}
		m.u32(unix.IFLA_MASTER, uint32(index))
	}
	if len(m.b) == empty && mask == 0 {
		return nil, nil
	}
	return m, nil
}

// aliasOf is the alias as the kernel takes it: without a zero at its end, which
// it would count as part of it, but never without any byte.
func aliasOf(alias string) []byte {
	if alias == "" {
		return []byte{0}
	}
	return []byte(alias)
}

// pinMTU is the request that comes before the one that sets a bridge's MTU to what
// it is already: the kernel takes no notice of an MTU that is no change, and would
// go on following that of the ports, so that it has another one in between. nil
// for none.
func pinMTU(l, change linkspec.Link) *message {
	if l.Kind != linkspec.Bridge || change.MTU == nil || l.MTU == nil || *l.MTU != *change.MTU {
		return nil
	}
	// Up, not down: below 1280 bytes a device loses its IPv6 addresses.
	other := *change.MTU + 1
	if other > maxMTU {
		other = maxMTU - 1
	}
	return setLink(l.Index, 0, 0).u32(unix.IFLA_MTU, uint32(other))
}
