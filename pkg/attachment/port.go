package attachment

import (
	"net"
	"strings"
)

// PortPrefix begins the name of the host's end of the veth pair that stands in
// for a tap in another network namespace, InnerPrefix that of the other end.
const (
	PortPrefix  = "mvp-"
	InnerPrefix = "mvi-"
)

// PortName is the derived name of the attachment's own port: the host's end of
// a veth pair. It is MaxName bytes long.
func (a Attachment) PortName() string {
	return PortPrefix + a.digest("port")[:nameDigits]
}

// InnerName is the derived name of the pair's other end, which is in the tap's
// network namespace.
func (a Attachment) InnerName() string {
	return InnerPrefix + a.digest("inner")[:nameDigits]
}

// UpperPrefix begins the name of the host's device over a tap in another network
// namespace.
const UpperPrefix = "mvs-"

// UpperName is the derived name of that device.
func (a Attachment) UpperName() string {
	name, _ := UpperOf(a.PortName())
	return name
}

// UpperOf is the UpperName that goes with a PortName, and whether it is one.
func UpperOf(port string) (upper string, ok bool) {
	digits, ok := strings.CutPrefix(port, PortPrefix)
	return UpperPrefix + digits, ok && digits != ""
}

// PortMAC is the MAC address of a port of our own, given the guest's: it is to
// the bridge what a tap's is.
func PortMAC(guest net.HardwareAddr) net.HardwareAddr { return TapMAC(guest) }

// SplicedTapMAC is the MAC address of the host's side of a tap that is no port
// itself, given the guest's: unicast, locally administered, and neither the
// guest's nor the port's.
func SplicedTapMAC(guest net.HardwareAddr) net.HardwareAddr {
	mac := append(net.HardwareAddr(nil), guest...)
	mac[0] = 0xfa
	if guest[0] == 0xfa {
		mac[0] = 0xf6
	}
	return mac
}
