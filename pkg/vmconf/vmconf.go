// Package vmconf is for authors of runtimes: it reads the CNI result of
// microvm-tap and microvm-bridge, and writes what a VMM and its guest need.
//
//	nic, err := vmconf.Parse(result, vmconf.Attachment{ContainerID: id, IfName: "eth0", Netns: path})
//	args, err := nic.QEMU(vmconf.QEMU{})
//	boot, err := nic.KernelIP("eth0")
//
// # What a result holds
//
// Its interfaces are, in this order, and with this name and sandbox:
//
//	bridge             ""                         a port of it is what connects the guest
//	tap                "" or CNI_NETNS            what the VMM opens
//	the tap's name     CNI_CONTAINERID            the guest's own NIC, with the guest's MAC
//	port               ""                         only where the tap is in CNI_NETNS
//	CNI_IFNAME         CNI_NETNS                  only where the tap is not called that: for portmap
//
// Interfaces of other plugins of the chain follow. Parse does not rely on the
// order, and takes nothing else for what it is not:
//
//   - The guest's NIC is the one interface whose sandbox is the container ID.
//   - The tap is the one other interface of the same name. Its sandbox tells
//     where it is: empty for the host's namespace, else CNI_NETNS, and the VMM has
//     to be started in there.
//   - The guest's addresses are those bound to its NIC or to the tap. (For a tap in
//     CNI_NETNS all but one are bound to the tap, because firecracker-go-sdk wants
//     just one on the NIC.) An address that is bound to another interface, or to
//     none, is not the guest's.
//   - Routes and DNS are the guest's. A route without a gateway goes by that of
//     the guest's first address of the family that has one.
//   - The MTU is in results of cniVersion 1.1.0. Before that it is 0, and
//     [TapMTU] reads it off the live tap.
//
// None or two of what there must be one of is a [PairingError]. tc-redirect-tap,
// firecracker-go-sdk and Talos pair by the same rules.
//
// # What each format can hold
//
//   - [NIC.KernelIP]: the first IPv4 address, a default route, two IPv4 name servers. No
//     IPv6, no other address or route, no MTU, domain, search list or options.
//   - [CloudInit]: everything but the resolver's options and a route's advertised MSS,
//     which netplan before 1.0 takes for a mistake. Any number of NICs. What of it
//     a distribution's cloud-init brings about depends on its renderer: with netplan
//     all, with others not metrics, tables and MTUs of routes, or routes without a gateway.
//   - [NIC.Networkd]: everything but the resolver's options.
//   - [NIC.QEMU]: tap, MAC and MTU, which the guest's driver takes over by itself.
//     [NIC.CloudHypervisor]: tap and MAC; it reads the MTU off the tap. [NIC.Firecracker]:
//     tap and MAC.
//
// What a format is known to lack is left out. What would come out wrong is an
// [InexpressibleError]. No default route is made up: a guest has one if the result
// has one, for instance by the key isDefaultGateway or by IPAM's routes. A NIC without
// addresses is configured without any, and nothing switches DHCP on.
package vmconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/result"
)

// Attachment is what the runtime passed to ADD.
type Attachment struct {
	ContainerID string // CNI_CONTAINERID
	IfName      string // CNI_IFNAME
	Netns       string // CNI_NETNS; "" accepts a tap in whatever namespace the result says
}

// NIC is a guest's network device and the tap that the VMM opens for it.
type NIC struct {
	Attachment Attachment

	Tap   string           // name of the tap
	Netns string           // path of the network namespace of the tap, "" for the host's
	MAC   net.HardwareAddr // the guest's, 6 bytes
	MTU   int              // bytes; 0 if the result does not tell

	Addresses []Address
	Routes    []Route
	DNS       DNS
}

// Address is an address of the guest.
type Address struct {
	Prefix  netip.Prefix // the address itself, with the length of its subnet
	Gateway netip.Addr   // the zero Addr if there is none
}

// Route is a route of the guest. Numbers that are 0, and pointers that are nil,
// are not given.
type Route struct {
	Dst      netip.Prefix
	Via      netip.Addr // the zero Addr: on the link
	MTU      int        // bytes
	AdvMSS   int        // bytes
	Priority int        // the metric
	Table    *int       // number of the routing table
	Scope    *int       // as in rtnetlink(7)
}

// DNS is the guest's resolver.
type DNS struct {
	Nameservers []netip.Addr
	Domain      string
	Search      []string
	Options     []string // as in resolv.conf(5)
}

// PairingError says that a result has none, or several, of an interface of which
// there must be one: it does not come from a chain that makes a tap, or not from
// this attachment's.
type PairingError struct {
	Missing string   // "guest's NIC" or "tap"
	Rule    string   // what was looked for
	Found   []string // NAME@SANDBOX of what would do
}

func (e *PairingError) Error() string {
	if len(e.Found) == 0 {
		return fmt.Sprintf("find %s: there is no interface that %s", e.Missing, e.Rule)
	}
	return fmt.Sprintf("find %s: there must be one interface that %s, and there are %d: %s", e.Missing, e.Rule, len(e.Found), strings.Join(e.Found, ", "))
}

// Parse reads the result of ADD, of any version from 0.3.0.
func Parse(r types.Result, a Attachment) (*NIC, error) {
	if a.ContainerID == "" {
		return nil, errors.New("read attachment: there is no container ID")
	}
	if r == nil {
		return nil, errors.New("read result: there is none")
	}
	current, err := result.Parse(r)
	if err != nil {
		return nil, err
	}
	guest, tap, err := pair(current.Interfaces, a)
	if err != nil {
		return nil, err
	}
	n := &NIC{Attachment: a, Tap: tap.Name, Netns: tap.Sandbox, MTU: guest.Mtu}
	if n.MTU == 0 {
		n.MTU = tap.Mtu
	}
	if n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU) {
		return nil, fmt.Errorf("read MTU of %s: %d is none", label(guest), n.MTU)
	}
	if n.MAC, err = net.ParseMAC(guest.Mac); err != nil || len(n.MAC) != 6 || n.MAC[0]&1 != 0 {
		return nil, fmt.Errorf("read MAC address of %s: %q is none", label(guest), guest.Mac)
	}
	if err := n.addresses(current, guest, tap); err != nil {
		return nil, err
	}
	if err := n.routes(current.Routes); err != nil {
		return nil, err
	}
	return n, n.dns(current.DNS)
}

// What the kernel takes for an MTU, in bytes.
const (
	minMTU = 68
	maxMTU = 65535
)

// pair finds the guest's NIC and its tap.
func pair(all []*types100.Interface, a Attachment) (guest, tap *types100.Interface, err error) {
	guest, err = one(all, "guest's NIC", fmt.Sprintf("has the container ID %s for its sandbox", a.ContainerID),
		func(in *types100.Interface) bool { return in.Sandbox == a.ContainerID })
	if err != nil {
		return nil, nil, err
	}
	if guest.Name == "" || !printable(guest.Name) {
		return nil, nil, fmt.Errorf("read the guest's NIC: %q is no name", guest.Name)
	}
	tap, err = one(all, "tap", fmt.Sprintf("has the name %s of the guest's NIC", guest.Name),
		func(in *types100.Interface) bool { return in.Sandbox != a.ContainerID && in.Name == guest.Name })
	if err != nil {
		return nil, nil, err
	}
	if tap.Sandbox != "" && a.Netns != "" && tap.Sandbox != a.Netns {
		return nil, nil, &PairingError{Missing: "tap", Rule: fmt.Sprintf(
			"has the name %s on the host or in %s, but one in %s", tap.Name, a.Netns, tap.Sandbox)}
	}
	return guest, tap, nil
}

func one(all []*types100.Interface, what, rule string, fits func(*types100.Interface) bool) (*types100.Interface, error) {
	var found []*types100.Interface
	var labels []string
	for _, in := range all {
		if fits(in) {
			found, labels = append(found, in), append(labels, label(in))
		}
	}
	if len(found) != 1 {
		return nil, &PairingError{Missing: what, Rule: rule, Found: labels}
	}
	return found[0], nil
}

func label(in *types100.Interface) string { return in.Name + "@" + in.Sandbox }

// printable tells whether the text can stand in a line of a file as one word.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}
