// Package reconcile is the engine that every verb runs on: it brings a declared
// state about, tells what sets the kernel apart from it, and removes what an
// attachment owns. It knows nothing of CNI.
package reconcile

import (
	"context"
	"net"
	"net/netip"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Kernel is what the engine needs of one network namespace. The real one is
// pkg/kernel, a model in memory is pkg/kernel/fake, and pkg/kernel/kerneltest
// holds both to the words below.
//
// Links of other network namespaces are told apart by their Netns. They are
// looked up, created, set and deleted as those of the host are; all else is of
// the host's namespace. A path that leads to no network namespace, or to none
// any more, is one where no link is.
//
// A link or bridge that is not there is an error that is fs.ErrNotExist; a name
// that is taken is fs.ErrExist.
type Kernel interface {
	// Link returns the link that has the name, or the alternative name.
	Link(name string) (linkspec.Link, error)

	// LinkIn is Link in the network namespace of that path, "" for the host's. For
	// a tap that is not on the host Splice and Unqueued are filled in, for a port with a
	// name of ours (attachment.PortPrefix) Shortcut, as far as it is by the upper device
	// of that name (attachment.UpperOf).
	LinkIn(netns, name string) (linkspec.Link, error)

	// Links returns all links of the host. It is a dump, for GC only: its cost grows with
	// the number of links. Addresses, IPv6, AcceptRA, ARPIgnore,
	// VLANs, Carried and Stations are not filled in.
	Links() ([]linkspec.Link, error)

	// Ports returns the ports of the bridge, filled in as by Links.
	Ports(bridge string) ([]linkspec.Link, error)

	// AnyPort tells whether ok takes one of the bridge's ports. It is for bridges with
	// many of which one will do.
	AnyPort(bridge string, ok func(port linkspec.Link) bool) (bool, error)

	// Routes returns where packets are routed to through the link, by other
	// routes than those that every link has: to its own addresses, to link-local
	// and multicast ones of IPv6. A default route is 0.0.0.0/0 or ::/0.
	Routes(name string) ([]netip.Prefix, error)

	// Create makes a link of that kind and name, down, with the fields that can
	// only be given at creation: for a tap owner, group and multiQueue, for a VLAN
	// device the VLAN and the device below. A tap that is not kept dies with the
	// process. A bridge gets a MAC address of its own that no port changes, and
	// filters VLANs if it declares that. Every link but a tap has the alias that it
	// declares from its first moment on: one without it would be nobody's if the
	// process ended there. The other end of a veth, down as well, is made at its
	// Peer's place. It is deleted with that end, and with its namespace. An upper
	// device is of the host, over the tap that is its Lower, deaf, and deleted with that.
	Create(l linkspec.Link) (Draft, error)

	// Set gives the declared fields of change to an observed link, in an order
	// in which no frame passes before the port is as declared: names, IPv6, ARP,
	// attributes and bridge first, then port flags, VLANs and stations, then limits,
	// in place of those that the port had, then addresses, then splice, queue and shortcut, then up. An
	// MTU set on a bridge is one that no port changes, even if it is the one
	// that the bridge has. An address that failed duplicate address detection
	// is set anew. Down, where declared, comes first of all; a guard that goes, goes
	// when the port has left its bridge. A station that
	// another port or the bridge has as its own is fs.ErrExist.
	Set(l, change linkspec.Link) error

	// Delete deletes observed links. A link that is gone already is no error.
	// It returns once the names are free.
	Delete(links ...linkspec.Link) error

	// Holder returns the name of the port or bridge that has the address as its
	// own or is bound to it in the bridge's forwarding database, and "" where
	// there is none. Addresses that the bridge merely learned do not count.
	Holder(bridge string, mac net.HardwareAddr) (string, error)

	// CanFilter is an error that is errors.ErrUnsupported where the kernel's bridges
	// cannot tell VLANs apart. It makes nothing.
	CanFilter() error

	// Sysctl reads a kernel parameter of the namespace: key with dots, value
	// without white space at its ends.
	Sysctl(key string) (string, error)
	SetSysctl(key, value string) error

	NAT

	// Guard returns what guards the port, as it was declared; one that is off where
	// nothing does, or not as it should, or the port is gone.
	Guard(port linkspec.Link) (linkspec.Guard, error)

	// Shaping returns what limits the bandwidth of the port in the way in which Set
	// does it, by way of of's devices. A direction of which any part is missing or
	// was changed has no limit.
	Shaping(port linkspec.Link, of linkspec.Shaping) (linkspec.Shaping, error)

	// Lock keeps other processes of this software from changing what attachments
	// share, until unlock is called or the process ends, however it ends.
	Lock(ctx context.Context) (unlock func(), err error)
}

// NAT is the part of the Kernel that masquerades. Nothing of anybody else's is
// looked at or changed. Where the host lacks what a backend needs, every call
// is an error that is errors.ErrUnsupported.
type NAT interface {
	// Masquerades returns what is there for of's backend and network: an entry
	// for each holder of rules, whether they are all in order or not. Sources of
	// an entry are those of of's that are masqueraded. If of names a container,
	// it is the only holder that is looked for; if it names none, an address counts
	// as masqueraded by IPTables if any rule is about it.
	Masquerades(of linkspec.Masquerade) ([]linkspec.Masquerade, error)

	// Masquerade sees to it that the sources are masqueraded. What is in order is
	// not touched, and other sources of the same holder stay.
	Masquerade(m linkspec.Masquerade) error

	// Unmasquerade removes all rules of m's holder, whatever their sources are,
	// and with the last ones what was made to hold them. That there are none is
	// no error.
	Unmasquerade(m linkspec.Masquerade) error
}

// Draft is a link that was created and may still be taken back at no cost.
type Draft = linkspec.Draft
