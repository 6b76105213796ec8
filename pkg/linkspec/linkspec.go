// Package linkspec describes network links: as declared by a plan, as observed
// in the kernel, and what sets the two apart.
//
// The same Link type serves both. In a declared link a field that is nil is not
// declared: it is neither set nor checked. In an observed link every field that
// the kernel tells is filled in. All that this package knows of a field stands
// in one table (fields.go), from which the text form, the difference and the
// change are made, so that no verb can forget a field that another one applies.
package linkspec

import (
	"net"
	"net/netip"
	"strings"
)

// Kind is the type of a device.
type Kind string

// The kinds that the plugins make or join. Other kinds appear under the name
// that the kernel gives them (IFLA_INFO_KIND).
const (
	Tap    Kind = "tap"
	Bridge Kind = "bridge"
	IFB    Kind = "ifb" // takes frames aside to be limited
)

// String is the kind in words; that of a NIC is nothing that the kernel tells.
func (k Kind) String() string {
	if k == "" {
		return "NIC"
	}
	return string(k)
}

// Role says whose a link is, and so what may be done to it.
type Role int

const (
	// Observed links come from the kernel.
	Observed Role = iota
	// Owned links are created by ADD and deleted by DEL.
	Owned
	// Adopted links were made by an earlier plugin of the chain: only the
	// declared fields are set.
	Adopted
	// Shared links serve several attachments: ensured by ADD, and removed only
	// when this software made them and nobody uses them any more.
	Shared
	// Joined links belong to somebody else: they are looked at, and kept from
	// being changed by a port that joins them.
	Joined
	// Lent links are NICs of the host that are ports of a bridge as long as it
	// has guests: the declared fields are set, and then put back.
	Lent
)

func (r Role) String() string {
	return [...]string{"observed", "owned", "adopted", "shared", "joined", "lent"}[r]
}

// NoID is the owner or group of a tap that has none.
const NoID = ^uint32(0)

// Link is one network device.
type Link struct {
	Role  Role
	Kind  Kind
	Name  string
	Netns string // path of the network namespace that it is in; "" for the host's
	Index int    // the kernel's number; observed links only

	// Peer is the other end of a declared veth pair, made with it and at once in
	// its namespace. It is no property of the device, so it is never compared.
	Peer *Place

	// Lower is the tap below a declared upper device. It is the same as long as the
	// device lives, so it is never compared.
	Lower *Place

	// Guest is the MAC address of the guest's NIC behind a declared port. It is
	// no property of the device: no other station of the bridge may have it.
	Guest net.HardwareAddr

	// GuestAddresses are those that the guest behind a declared port was given: no
	// other guest of the bridge may have them.
	GuestAddresses []netip.Addr

	// Context is the SELinux context in which a declared tap is created; "" for
	// that of the process. It cannot be read back, so it is never compared.
	Context string

	Alias      *string  // interface alias (ifalias)
	AltNames   []string // alternative names; declared: those it must have
	NoAltNames []string // declared: those it must not have
	MAC        net.HardwareAddr
	MTU        *int    // bytes
	TxQueueLen *int    // packets
	Promisc    *bool   // IFF_PROMISC as set by an administrator, not by a packet socket
	Master     *string // name of the bridge it is a port of; "" for none
	Up         *bool   // IFF_UP: the administrative state, not the carrier

	IPv6     *bool // false: net.ipv6.conf.*.disable_ipv6 is 1
	AcceptRA *bool // net.ipv6.conf.*.accept_ra is not 0

	// ARPIgnore tells that ARP is answered only for addresses of the device itself:
	// net.ipv4.conf.*.arp_ignore is not 0.
	ARPIgnore *bool

	// Forwarding tells that IPv4 packets which come in on the device are forwarded:
	// net.ipv4.conf.*.forwarding is not 0.
	Forwarding *bool

	// Tap devices only.
	Owner      *uint32 // uid that may attach; NoID for anyone
	Group      *uint32 // gid that may attach; NoID for no condition
	MultiQueue *bool
	Persist    *bool

	// Splice is the name of the device, in the same namespace, that a tap's frames
	// go to and come from, past any bridge; "" for none.
	Splice *string

	// Unqueued tells of a tap in another namespace than the host's that frames to it
	// do not pass the queue that the kernel gives every device.
	Unqueued *bool

	// Shortcut is the name of the upper device that a port's frames to its guest
	// take past the pair that the port is an end of; "" for none.
	Shortcut *string

	// Deaf tells that an upper device hands the host nothing that its tap receives.
	Deaf *bool

	// Disabled tells of a bridge port that the bridge takes nothing from and sends
	// nothing to, though it is up and has a carrier. Of no other link it is true.
	Disabled *bool

	// XDP is the ID of a BPF program that sees the device's frames before all others
	// do; 0 for none (observed only).
	XDP uint32

	// Bridge ports only.
	Hairpin      *bool
	Isolated     *bool
	Learning     *bool // source addresses of received frames are learned
	UnicastFlood *bool // frames to unknown stations are sent
	BroadFlood   *bool // broadcasts are sent
	McastFlood   *bool // frames to groups that nobody is known to have joined are sent
	BPDUGuard    *bool // a BPDU disables the port, where the bridge speaks STP
	RootBlock    *bool // the port does not become the root port
	McastRouter  *bool // a query makes it a multicast router port; where the kernel has snooping
	ProxyARP     *bool // the bridge answers ARP for what is behind the port, and sends no broadcasts there
	Locked       *bool // only frames from stations bound to it are forwarded; Linux 5.16

	// Guard is what the guest behind a port may send. An observed port has none,
	// or what it has does not work, if it is off; nil where nobody looked.
	Guard *Guard

	// Stations are MAC addresses that are bound to a port: no frame that comes
	// in elsewhere moves them. Declared: those that it must have. They go when
	// it leaves the bridge. Observed only where Binds says so.
	Stations   []net.HardwareAddr
	NoStations []net.HardwareAddr // declared: those it must not have

	// Shaping is observed only where it is asked for (reconcile.Kernel.Shaping);
	// Shaped hints at it and comes with the link: a token bucket is at its root.
	Shaping *Shaping
	Shaped  bool

	// Bridges only. VLANFiltering is nil where the kernel cannot; DefaultPVID is
	// the VLAN that a new port is in, 0 for none (observed only).
	VLANFiltering *bool
	DefaultPVID   int

	// VLANs are those that a port of a bridge is in, these and no others; for a
	// bridge they are observed only. There are none where the bridge does not filter.
	VLANs []VLAN

	// InVLANs are VLANs that a port must be in, whatever others it is in: with their
	// tags, unless it is in them already. They are declared only.
	InVLANs []int

	// VLAN devices only. Carried tells that the bridge below is in the VLAN itself,
	// tagged: else it hands the device no frames.
	Parent  *string // name of the device below
	VLANID  *int
	Carried *bool

	Addresses   []Address      // declared: those it must have
	NoAddresses []netip.Prefix // declared: those it must not have
}

// Address is an IP address on a link, with the length of its on-link prefix.
type Address struct {
	Prefix netip.Prefix
	// NoDAD is true where duplicate address detection is skipped, so that no
	// guest can deny the address. It is compared where the address is Exact.
	NoDAD bool
	// Exact is true for an IPv6 address that is the software's own, so that NoDAD
	// must be as declared (declared only).
	Exact bool
	// Failed is true where duplicate address detection found the address in
	// use (observed only): the kernel does not answer for it.
	Failed bool
}

// Reachable tells whether others may know the address: it is not one of fe80::/10,
// which the kernel gives every link.
func (a Address) Reachable() bool {
	return a.Prefix.Addr().Is4() || !a.Prefix.Addr().IsLinkLocalUnicast()
}

// Sysctl is a kernel parameter of the host's network namespace.
type Sysctl struct {
	Key   string // with dots: "net.ipv4.ip_forward"
	Value string
}

// State is what one verb of one plugin wants to be so.
type State struct {
	Links   []Link // in the order in which they are brought about
	Sysctls []Sysctl
	// Masquerade is nil where none is declared.
	Masquerade *Masquerade
	// Filters names the bridge that must be able to tell VLANs apart, or to learn
	// it without harm, before anything is made; "" for none.
	Filters string
}

// Shared tells whether the state holds anything that other attachments change
// too, so that it must be brought about by one process at a time.
func (s State) Shared() bool {
	if s.Masquerade != nil {
		return true
	}
	for _, l := range s.Links {
		if l.Role == Shared || l.Role == Joined {
			return true
		}
	}
	return false
}

// String is the state as text, a field a line, in words that `ip` uses.
func (s State) String() string {
	var b strings.Builder
	for _, l := range s.Links {
		b.WriteString(l.String())
	}
	for _, c := range s.Sysctls {
		b.WriteString("sysctl " + c.Key + " = " + c.Value + "\n")
	}
	if s.Masquerade != nil {
		b.WriteString(s.Masquerade.String())
	}
	if s.Filters != "" {
		b.WriteString("filters " + s.Filters + "\n")
	}
	return b.String()
}

// Binds tells whether an observed port is one that stations may be bound to: one
// that has the flags of a guarded port. Of others nobody asks, for it costs a list.
func (l Link) Binds() bool {
	return l.Learning != nil && !*l.Learning || l.BPDUGuard != nil && *l.BPDUGuard
}

// OffBridge is the observed port without what a bridge keeps of it, all of which goes
// when it leaves.
func (l Link) OffBridge() Link {
	l.Master, l.Disabled = new(""), new(false)
	for _, flag := range l.PortFlags() {
		*flag = nil
	}
	l.VLANs, l.Stations = nil, nil
	return l
}

// PortFlags are the flags that only a port of a bridge has.
func (l *Link) PortFlags() []**bool {
	return []**bool{
		&l.Hairpin, &l.Isolated, &l.Learning, &l.UnicastFlood, &l.BroadFlood, &l.McastFlood,
		&l.BPDUGuard, &l.RootBlock, &l.McastRouter, &l.ProxyARP, &l.Locked,
	}
}

// String is the link as text: a headline, then a line for each declared field.
func (l Link) String() string {
	var b strings.Builder
	b.WriteString(l.Role.String() + " " + l.Kind.String() + " " + l.Key() + "\n")
	if l.Peer != nil {
		b.WriteString("    peer " + Key(l.Peer.Netns, l.Peer.Name) + "\n")
	}
	if l.Lower != nil {
		b.WriteString("    lower " + Key(l.Lower.Netns, l.Lower.Name) + "\n")
	}
	if l.Guest != nil {
		b.WriteString("    guest " + l.Guest.String() + "\n")
	}
	for _, a := range l.GuestAddresses {
		b.WriteString("    guest address " + a.String() + "\n")
	}
	if l.Context != "" {
		b.WriteString("    context " + l.Context + "\n")
	}
	for _, f := range fields {
		for _, v := range f.texts(&l) {
			b.WriteString("    " + f.name + " " + v + "\n")
		}
	}
	return b.String()
}
