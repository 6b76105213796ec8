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
	body := make([]byte, unix.SizeofNdMsg)
	body[0] = unix.AF_BRIDGE
	reply, err := k.conn.get(newMessage(unix.RTM_GETNEIGH, 0, body...).
		attr(unix.NDA_LLADDR, mac).
		u32(unix.NDA_MASTER, uint32(index)))
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up %s on bridge %s: %w", mac, bridge, err)
	}
	if len(reply) < unix.SizeofNdMsg {
		return "", fmt.Errorf("look up %s on bridge %s: message cut short", mac, bridge)
	}
	// struct ndmsg: an address of a device is permanent, a static entry noarp.
	state := native.Uint16(reply[8:])
	if state&(unix.NUD_PERMANENT|unix.NUD_NOARP) == 0 {
		return "", nil
	}
	holder, err := k.nameOf(int(native.Uint32(reply[4:])))
	if errors.Is(err, unix.ENODEV) {
		return "", nil // gone since
	}
	return holder, wrap("look up holder of "+mac.String(), err)
}
