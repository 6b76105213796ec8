package kernel

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Routes returns where packets are routed to through the link. The kernel picks
// the routes out (Linux 4.20), also those of which the link is one way of several.
func (k *Kernel) Routes(name string) ([]netip.Prefix, error) {
	index, err := k.indexOf(name)
	if err != nil {
		return nil, err
	}
	var routes []netip.Prefix
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		body := make([]byte, unix.SizeofRtMsg)
		body[0] = family
		payloads, err := k.conn.dump(newMessage(unix.RTM_GETROUTE, 0, body...).u32(unix.RTA_OIF, uint32(index)), unix.RTM_NEWROUTE)
		if err != nil {
			return nil, missing(name, wrap("list its routes", err))
		}
		for _, p := range payloads {
			if to, ok := decodeRoute(p, family); ok {
				routes = append(routes, to)
			}
		}
	}
	return routes, nil
}

// decodeRoute reads an RTM_NEWROUTE message (struct rtmsg). It is ok if the
// route is of that family and none that every link has.
func decodeRoute(b []byte, family uint8) (to netip.Prefix, ok bool) {
	if len(b) < unix.SizeofRtMsg || b[0] != family || b[4] == unix.RT_TABLE_LOCAL || b[7] != unix.RTN_UNICAST {
		return to, false
	}
	addr := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		addr = netip.IPv6Unspecified()
	}
	if dst := lookup(b[unix.SizeofRtMsg:], unix.RTA_DST); dst != nil {
		if addr, ok = netip.AddrFromSlice(dst); !ok {
			return to, false
		}
	}
	if addr.Is6() && (addr.IsMulticast() || addr.IsLinkLocalUnicast()) {
		return to, false
	}
	return netip.PrefixFrom(addr, int(b[1])), true
}
