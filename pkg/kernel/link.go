package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Numbers of include/uapi/linux that x/sys does not have.
const (
	extSkipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS (rtnetlink.h)

	inetConf           = 1  // IFLA_INET_CONF (if_link.h)
	devconfForwarding  = 0  // IPV4_DEVCONF_FORWARDING (ip.h), less one
	devconfARPIgnore   = 18 // IPV4_DEVCONF_ARP_IGNORE (ip.h), less one
	devconfAcceptRA    = 3  // DEVCONF_ACCEPT_RA (ipv6.h)
	devconfDisableIPv6 = 26 // DEVCONF_DISABLE_IPV6

	operUp = 6 // IF_OPER_UP (if.h)

	tunTypeTap = 2 // IFF_TAP, as IFLA_TUN_TYPE has it
)

// Link returns the link of the host that has the name, or the alternative name.
func (k *Kernel) Link(name string) (linkspec.Link, error) { return k.look(name) }

// look looks up a link of this namespace. Addresses take a second request, and the
// name of the bridge a third. Where that, or the link itself, filters VLANs a
// fourth asks for them.
func (k *Kernel) look(name string) (linkspec.Link, error) {
	reply, err := k.conn.get(getLink(name))
	if err != nil {
		return linkspec.Link{}, missing(name, err)
	}
	r := decodeLink(reply)
	l := r.link
	filters := r.filters()
	if r.master != 0 {
		if l.Master, filters, err = k.masterOf(r.master); err != nil {
			return linkspec.Link{}, missing(name, err)
		}
		if l.Binds() {
			if l.Stations, err = k.stations(l.Index, r.master); err != nil {
				return linkspec.Link{}, missing(name, wrap("list bound addresses", err))
			}
		}
	}
	if filters {
		if l.VLANs, err = k.vlans(l.Index); err != nil {
			return linkspec.Link{}, missing(name, err)
		}
	}
	if l.Kind == linkspec.VLANDevice && r.below != 0 {
		if err = k.addParent(&l, r.below); err != nil {
			return linkspec.Link{}, missing(name, wrap("look at device below", err))
		}
	}
	if l.Shortcut, err = k.shortcutOf(l); err != nil {
		return linkspec.Link{}, missing(name, err)
	}
	l.IPv6, l.AcceptRA, l.ARPIgnore, l.Forwarding = &r.ipv6, &r.acceptRA, &r.arpIgnore, &r.forwarding
	if l.Addresses, err = k.addresses(l.Index); err != nil {
		return linkspec.Link{}, missing(name, wrap("list its addresses", err))
	}
	return l, nil
}

// Links returns all links, in a dump that grows with their number. Addresses,
// IPv6, AcceptRA, ARPIgnore, Forwarding, VLANs and Carried are not filled in.
func (k *Kernel) Links() ([]linkspec.Link, error) {
	links, err := k.list(newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).
		u32(unix.IFLA_EXT_MASK, extSkipStats))
	return links, wrap("list links", err)
}

// Ports returns the ports of the bridge, filled in as by Links. The kernel
// picks them out, so that it costs little where there are few.
func (k *Kernel) Ports(bridge string) ([]linkspec.Link, error) {
	index, err := k.indexOf(bridge)
	if err != nil {
		return nil, err
	}
	ports, err := k.list(portsUnder(index))
	return ports, wrap("list ports of "+bridge, err)
}

func portsUnder(bridge int) *message {
	return newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).
		u32(unix.IFLA_EXT_MASK, extSkipStats).
		u32(unix.IFLA_MASTER, uint32(bridge))
}

// AnyPort tells whether the bridge has a port that ok takes, in no longer than it
// takes to come to it. Ports are filled in as by Ports.
func (k *Kernel) AnyPort(bridge string, ok func(linkspec.Link) bool) (found bool, err error) {
	index, err := k.indexOf(bridge)
	if err != nil {
		return false, err
	}
	c, err := dial()
	if err != nil {
		return false, err
	}
	found, err = c.find(portsUnder(index), unix.RTM_NEWLINK, func(payload []byte) bool {
		l := decodeLink(payload).link
		l.Master = &bridge
		return ok(l)
	})
	if err = errors.Join(err, c.close()); !errors.Is(err, errInterrupted) {
		return found, wrap("look through ports of "+bridge, err)
	}
	ports, err := k.Ports(bridge) // which knows how to begin again
	return slices.ContainsFunc(ports, ok), err
}

// list makes a dump of links, and looks up the bridges that are not in it.
func (k *Kernel) list(m *message) ([]linkspec.Link, error) {
	payloads, err := k.conn.dump(m, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	links := make([]linkspec.Link, len(payloads))
	masters, below := make([]int, len(payloads)), make([]int, len(payloads))
	names := map[int]*string{}
	for i, p := range payloads {
		r := decodeLink(p)
		links[i], masters[i], below[i] = r.link, r.master, r.below
		names[r.link.Index] = new(r.link.Name)
	}
	for i, master := range masters {
		if master == 0 {
			continue
		}
		if names[master] == nil {
			if names[master], _, err = k.masterOf(master); err != nil {
				return nil, missing(links[i].Name, err)
			}
		}
		links[i].Master = new(*names[master])
	}
	for i, index := range below {
		if name := names[index]; name != nil && links[i].Kind == linkspec.VLANDevice {
			links[i].Parent = new(*name)
		}
	}
	return links, nil
}

// masterOf returns the name of the bridge that a link was seen to be a port of,
// and whether it filters VLANs: none, if the bridge was deleted since, for then
// it is no port any more.
func (k *Kernel) masterOf(index int) (name *string, filters bool, err error) {
	r, err := k.recordOf(index)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("look up its bridge: %w", err)
	}
	return &r.link.Name, r.filters(), nil
}

// getLink asks for the link that has the name, or the alternative name.
func getLink(name string) *message {
	typ := uint16(unix.IFLA_IFNAME)
	if len(name) > attachment.MaxName {
		typ = unix.IFLA_ALT_IFNAME
	}
	return newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).
		u32(unix.IFLA_EXT_MASK, extSkipStats).
		text(typ, name)
}

// indexOf returns the index of the link that has the name.
func (k *Kernel) indexOf(name string) (int, error) {
	reply, err := k.conn.get(getLink(name))
	if err != nil {
		return 0, missing(name, err)
	}
	return decodeLink(reply).link.Index, nil
}

// nameOf returns the name of the link that has the index.
func (k *Kernel) nameOf(index int) (string, error) {
	r, err := k.recordOf(index)
	return r.link.Name, err
}

// recordOf returns what one message tells about the link that has the index.
func (k *Kernel) recordOf(index int) (record, error) {
	reply, err := k.conn.get(newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, index, 0, 0)...).
		u32(unix.IFLA_EXT_MASK, extSkipStats))
	if err != nil {
		return record{}, err
	}
	return decodeLink(reply), nil
}

// record is what one message tells about a link.
type record struct {
	link           linkspec.Link
	master         int // index, 0 for none
	below          int // index of the device below; 0 for none, or none in this namespace
	ipv6, acceptRA bool
	arpIgnore      bool
	forwarding     bool
	queues         uint32 // of a multi-queue tap, attached or not
}

// decodeLink reads an RTM_NEWLINK message.
func decodeLink(b []byte) record {
	var r record
	if len(b) < unix.SizeofIfInfomsg {
		return r
	}
	l := &r.link
	l.Index = int(int32(native.Uint32(b[4:])))
	flags := native.Uint32(b[8:])
	l.Up = new(flags&unix.IFF_UP != 0)
	// The kernel reports what an administrator asked for here, and leaves out
	// what bridges and packet sockets made of it (dev_get_flags).
	l.Promisc = new(flags&unix.IFF_PROMISC != 0)
	l.Alias, l.Master, l.Disabled = new(""), new(""), new(false)
	elsewhere, running := false, false
	for typ, v := range attrs(b[unix.SizeofIfInfomsg:]) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = textOf(v)
		case unix.IFLA_IFALIAS:
			l.Alias = new(textOf(v))
		case unix.IFLA_PROP_LIST:
			for t, name := range attrs(v) {
				if t == unix.IFLA_ALT_IFNAME {
					l.AltNames = append(l.AltNames, textOf(name))
				}
			}
		case unix.IFLA_ADDRESS:
			l.MAC = append(net.HardwareAddr(nil), v...)
		case unix.IFLA_MTU:
			l.MTU = new(int(u32Of(v)))
		case unix.IFLA_TXQLEN:
			l.TxQueueLen = new(int(u32Of(v)))
		case unix.IFLA_QDISC:
			l.Shaped = textOf(v) == "tbf"
		case unix.IFLA_MASTER:
			r.master = int(u32Of(v))
		case unix.IFLA_LINK:
			r.below = int(u32Of(v))
		case unix.IFLA_LINK_NETNSID:
			elsewhere = true
		case unix.IFLA_LINKINFO:
			r.linkInfo(v)
		case unix.IFLA_OPERSTATE:
			running = flagIs(v, operUp)
		case unix.IFLA_XDP:
			l.XDP = programAtXDP(v)
		case unix.IFLA_AF_SPEC:
			r.devconf4(lookup(lookup(v, unix.AF_INET), inetConf))
			r.devconf6(lookup(lookup(v, unix.AF_INET6), unix.IFLA_INET6_CONF))
		}
	}
	if elsewhere {
		r.below = 0
	}
	if !running { // the bridge disables such a port itself
		l.Disabled = new(false)
	}
	return r
}

// linkInfo reads what is particular to the kind of device, and to ports.
func (r *record) linkInfo(b []byte) {
	l := &r.link
	l.Kind = linkspec.Kind(textOf(lookup(b, unix.IFLA_INFO_KIND)))
	data := lookup(b, unix.IFLA_INFO_DATA)
	switch {
	case l.Kind == "tun" && flagIs(lookup(data, unix.IFLA_TUN_TYPE), tunTypeTap):
		l.Kind = linkspec.Tap
		r.tap(data)
	case l.Kind == linkspec.Bridge:
		r.readBridge(data)
	case l.Kind == linkspec.VLANDevice:
		r.readVLANDevice(data)
	case l.Kind == linkspec.Upper:
		l.Deaf = new(isDeaf(data))
	}
	if textOf(lookup(b, unix.IFLA_INFO_SLAVE_KIND)) == string(linkspec.Bridge) {
		observePort(l, lookup(b, unix.IFLA_INFO_SLAVE_DATA))
	}
}

// programAtXDP reads IFLA_XDP: the ID of a program, the first one where there is one
// of the driver's and one of the kernel's.
func programAtXDP(b []byte) uint32 {
	for _, typ := range []uint16{unix.IFLA_XDP_PROG_ID, unix.IFLA_XDP_HW_PROG_ID, unix.IFLA_XDP_DRV_PROG_ID, unix.IFLA_XDP_SKB_PROG_ID} {
		if id := lookup(b, typ); len(id) == 4 {
			return u32Of(id)
		}
	}
	return 0
}

func (r *record) tap(data []byte) {
	l := &r.link
	l.Owner, l.Group = new(linkspec.NoID), new(linkspec.NoID)
	for typ, v := range attrs(data) {
		switch typ {
		case unix.IFLA_TUN_OWNER:
			l.Owner = new(u32Of(v))
		case unix.IFLA_TUN_GROUP:
			l.Group = new(u32Of(v))
		case unix.IFLA_TUN_MULTI_QUEUE:
			l.MultiQueue = new(flagOf(v))
		case unix.IFLA_TUN_PERSIST:
			l.Persist = new(flagOf(v))
		case unix.IFLA_TUN_NUM_QUEUES, unix.IFLA_TUN_NUM_DISABLED_QUEUES:
			r.queues += u32Of(v)
		}
	}
}

// devconf4 reads the parameters net.ipv4.conf.NAME.*, which the kernel sends
// along.
func (r *record) devconf4(b []byte) {
	if len(b) >= 4*(devconfARPIgnore+1) {
		r.arpIgnore = native.Uint32(b[4*devconfARPIgnore:]) != 0
		r.forwarding = native.Uint32(b[4*devconfForwarding:]) != 0
	}
}

// devconf6 does so with net.ipv6.conf.NAME.*. A device that IPv6 knows nothing of
// sends none.
func (r *record) devconf6(b []byte) {
	if len(b) < 4*(devconfDisableIPv6+1) {
		return
	}
	r.ipv6 = native.Uint32(b[4*devconfDisableIPv6:]) == 0
	r.acceptRA = native.Uint32(b[4*devconfAcceptRA:]) != 0
}

func flagIs(v []byte, want byte) bool { return len(v) > 0 && v[0] == want }

// addresses returns the addresses of the link of that index.
func (k *Kernel) addresses(index int) ([]linkspec.Address, error) {
	body := native.AppendUint32([]byte{unix.AF_UNSPEC, 0, 0, 0}, uint32(index))
	payloads, err := k.conn.dump(newMessage(unix.RTM_GETADDR, 0, body...), unix.RTM_NEWADDR)
	if err != nil {
		return nil, err
	}
	var addrs []linkspec.Address
	for _, p := range payloads {
		if a, ok := decodeAddress(p); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// decodeAddress reads an RTM_NEWADDR message (struct ifaddrmsg).
func decodeAddress(b []byte) (linkspec.Address, bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return linkspec.Address{}, false
	}
	bits, flags := int(b[1]), uint32(b[2])
	b = b[unix.SizeofIfAddrmsg:]
	ip := lookup(b, unix.IFA_LOCAL) // the other one is the peer's, where they differ
	if ip == nil {
		ip = lookup(b, unix.IFA_ADDRESS)
	}
	addr, ok := netip.AddrFromSlice(ip)
	if long := lookup(b, unix.IFA_FLAGS); long != nil {
		flags = u32Of(long)
	}
	return linkspec.Address{
		Prefix: netip.PrefixFrom(addr, bits),
		NoDAD:  flags&unix.IFA_F_NODAD != 0,
		Failed: flags&unix.IFA_F_DADFAILED != 0,
	}, ok
}
