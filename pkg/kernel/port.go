package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// ntfSticky is NTF_STICKY (include/uapi/linux/neighbour.h): no frame moves the entry.
const ntfSticky = 1 << 6

// States of a port (include/uapi/linux/if_bridge.h).
const (
	stateDisabled   = 0
	stateListening  = 1
	stateLearning   = 2
	stateForwarding = 3
)

// portFlags are the attributes of linkspec.Link.PortFlags, in that order. A kernel that
// does not know one takes it without a word, and does not tell it.
var portFlags = []uint16{
	unix.IFLA_BRPORT_MODE, unix.IFLA_BRPORT_ISOLATED, unix.IFLA_BRPORT_LEARNING, unix.IFLA_BRPORT_UNICAST_FLOOD,
	unix.IFLA_BRPORT_BCAST_FLOOD, unix.IFLA_BRPORT_MCAST_FLOOD,
	unix.IFLA_BRPORT_GUARD, unix.IFLA_BRPORT_PROTECT, unix.IFLA_BRPORT_MULTICAST_ROUTER, unix.IFLA_BRPORT_PROXYARP, unix.IFLA_BRPORT_LOCKED,
}

// observePort reads IFLA_INFO_SLAVE_DATA of a bridge port.
func observePort(l *linkspec.Link, data []byte) {
	flags := l.PortFlags()
	for typ, v := range attrs(data) {
		if i := slices.Index(portFlags, typ); i >= 0 {
			*flags[i] = new(flagOf(v))
		}
	}
	if state := lookup(data, unix.IFLA_BRPORT_STATE); len(state) > 0 {
		l.Disabled = new(isDisabled(state[0], lookup(data, unix.IFLA_BRPORT_FORWARD_DELAY_TIMER)))
	}
}

// isDisabled tells whether a port with that state will pass nothing: that of a bridge which
// speaks STP listens and learns for a while, by a timer.
func isDisabled(state byte, timer []byte) bool {
	onItsWay := len(timer) >= 8 && native.Uint64(timer) > 0
	return state == stateDisabled || (state == stateListening || state == stateLearning) && !onItsWay
}

// setPortFlags sets flags of a bridge port, which is not up yet, unless it is repaired.
func (k *Kernel) setPortFlags(l, change linkspec.Link) error {
	m := newMessage(unix.RTM_SETLINK, 0, ifinfo(unix.AF_BRIDGE, l.Index, 0, 0)...)
	none := change.Disabled == nil
	m.nest(unix.IFLA_PROTINFO, func() {
		for i, flag := range change.PortFlags() {
			if *flag != nil {
				m.attr(portFlags[i], []byte{bit(**flag)})
				none = false
			}
		}
		if was, is := l.Learning, change.Learning; was != nil && is != nil && *was && !*is {
			m.attr(unix.IFLA_BRPORT_FLUSH, nil) // what it has learned, which nothing else forgets for minutes
		}
		if change.Disabled != nil {
			m.attr(unix.IFLA_BRPORT_STATE, []byte{portState(*change.Disabled)})
		}
	})
	if none {
		return nil
	}
	err := k.conn.do(m)
	if errors.Is(err, unix.EBUSY) && change.Disabled != nil {
		return cnierr.New(cnierr.Kernel, fmt.Sprintf("the bridge speaks STP, and so sets the states of its ports itself: ip link set %s down && ip link set %s up", l.Name, l.Name),
			"set port state: %w", err)
	}
	return wrap("set port flags", err)
}

func portState(disabled bool) byte {
	if disabled {
		return stateDisabled
	}
	return stateForwarding
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// setStations binds addresses to a port, in each VLAN that it is in by now. One
// that the bridge has learned elsewhere moves here, once and for all.
func (k *Kernel) setStations(l, change linkspec.Link) error {
	of := uint8(unix.NTF_MASTER)
	if l.Kind == linkspec.Bridge { // the entry says that the host has the address
		of = unix.NTF_SELF
	}
	for _, mac := range change.NoStations {
		m := newMessage(unix.RTM_DELNEIGH, 0, neighbour(l.Index, unix.NUD_NOARP, of)...)
		if err := k.conn.do(m.attr(unix.NDA_LLADDR, mac)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("take %s off the port: %w", mac, err)
		}
	}
	for _, mac := range change.Stations {
		if err := k.bindStation(l, mac); err != nil {
			return fmt.Errorf("bind %s to the port: %w", mac, err)
		}
	}
	return nil
}

func (k *Kernel) bindStation(l linkspec.Link, mac net.HardwareAddr) error {
	if l.Kind == linkspec.Bridge {
		m := newMessage(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, neighbour(l.Index, unix.NUD_PERMANENT, unix.NTF_SELF)...)
		return k.conn.do(m.attr(unix.NDA_LLADDR, mac))
	}
	_, master, err := k.portOf(l.Index)
	if err != nil {
		return err
	}
	if master == 0 {
		return fmt.Errorf("not a port of a bridge")
	}
	bridge, err := k.nameOf(master)
	if err != nil {
		return err
	}
	switch holder, err := k.holderIndex(master, mac); {
	case err != nil:
		return err
	case holder != 0 && holder != l.Index:
		return fmt.Errorf("another port of %s has it: %w", bridge, fs.ErrExist)
	}
	m := newMessage(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, neighbour(l.Index, unix.NUD_NOARP, unix.NTF_MASTER|ntfSticky)...)
	return k.conn.do(m.attr(unix.NDA_LLADDR, mac))
}

// portOf asks for the link of that index and the bridge that it is a port of.
func (k *Kernel) portOf(index int) (linkspec.Link, int, error) {
	reply, err := k.conn.get(newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, index, 0, 0)...).
		u32(unix.IFLA_EXT_MASK, extSkipStats))
	if err != nil {
		return linkspec.Link{}, 0, err
	}
	r := decodeLink(reply)
	return r.link, r.master, nil
}

// stations returns the addresses that are bound to the port.
func (k *Kernel) stations(port, bridge int) ([]net.HardwareAddr, error) {
	m := newMessage(unix.RTM_GETNEIGH, 0, neighbour(port, 0, 0)...).u32(unix.NDA_MASTER, uint32(bridge))
	payloads, err := k.conn.dump(m, unix.RTM_NEWNEIGH)
	if err != nil {
		return nil, err
	}
	var macs []net.HardwareAddr
	for _, p := range payloads {
		if mac := stationIn(p, port); mac != nil {
			macs = append(macs, mac)
		}
	}
	return macs, nil
}

// stationIn returns the address that an entry binds to the port, nil for an
// entry that does not: one that is learned, of a VLAN, or may move.
func stationIn(b []byte, port int) net.HardwareAddr {
	if len(b) < unix.SizeofNdMsg || int(native.Uint32(b[4:])) != port {
		return nil
	}
	state, flags := native.Uint16(b[8:]), b[10]
	b = b[unix.SizeofNdMsg:]
	if state != unix.NUD_NOARP || flags&ntfSticky == 0 || lookup(b, unix.NDA_VLAN) != nil {
		return nil
	}
	return bytes.Clone(lookup(b, unix.NDA_LLADDR))
}

// neighbour is the fixed part of a message about an entry of a bridge's
// forwarding database (struct ndmsg).
func neighbour(index int, state uint16, flags uint8) []byte {
	b := []byte{unix.AF_BRIDGE, 0, 0, 0}
	b = native.AppendUint32(b, uint32(index))
	b = native.AppendUint16(b, state)
	return append(b, flags, 0)
}
