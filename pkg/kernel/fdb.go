package kernel

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Holder returns the name of the port or bridge that has the address, or is
// bound to it, in the bridge's forwarding database. It asks for that one entry;
// entries of a single VLAN are not looked at.
func (k *Kernel) Holder(bridge string, mac net.HardwareAddr) (string, error) {
	index, err := k.indexOf(bridge)
	if err != nil {
		return "", err
	}
	held, err := k.holderIndex(index, mac)
	if err != nil {
		return "", fmt.Errorf("look up %s on bridge %s: %w", mac, bridge, err)
	}
	if held == 0 {
		return "", nil
	}
	holder, err := k.nameOf(held)
	if errors.Is(err, unix.ENODEV) {
		return "", nil // gone since
	}
	return holder, wrap("look up holder of "+mac.String(), err)
}

// holderIndex is Holder for indexes, 0 for none.
func (k *Kernel) holderIndex(bridge int, mac net.HardwareAddr) (int, error) {
	reply, err := k.conn.get(newMessage(unix.RTM_GETNEIGH, 0, neighbour(0, 0, 0)...).
		attr(unix.NDA_LLADDR, mac).
		u32(unix.NDA_MASTER, uint32(bridge)))
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(reply) < unix.SizeofNdMsg {
		return 0, errors.New("message cut short")
	}
	// struct ndmsg: an address of a device is permanent, a static entry noarp.
	if native.Uint16(reply[8:])&(unix.NUD_PERMANENT|unix.NUD_NOARP) == 0 {
		return 0, nil
	}
	return int(native.Uint32(reply[4:])), nil
}
