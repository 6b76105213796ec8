// Package plan turns a configuration, an attachment and what an earlier plugin
// said into a declared state. It is pure: what it needs to know of the host
// comes in as facts, what is to be so goes out as a linkspec.State.
package plan

import (
	"net"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/result"
)

// Plan is what one plugin wants for one attachment. The verbs walk it in this
// order: Observe, Claim, Delegate, Settle for ADD; Observe, Promise, Delegate
// for CHECK.
type Plan interface {
	// Attachment is the guest NIC that the plan is for.
	Attachment() attachment.Attachment
	// Shared tells whether Settle declares links that other attachments change.
	Shared() bool
	// Guard is what will hold the guest to itself, with as many addresses as are
	// likely; one that is off for none.
	Guard() linkspec.Guard
	// Observe gives the keys of the links that Claim, Settle and Promise want to know about.
	Observe() []string
	// Claim refuses what cannot work before a delegate is asked for addresses,
	// and returns what marks the attachment as begun.
	Claim(Facts) (linkspec.State, error)
	// Previous is what the earlier plugins of the chain said; nil for nothing.
	Previous() *types100.Result
	// Delegate is the IPAM plugin; nil for none.
	Delegate() *Delegate
	// Settle returns the state that ADD brings about, and what it answers.
	// The argument is the delegate's result, nil without a delegate.
	Settle(Facts, *types100.Result) (linkspec.State, result.Answer, error)
	// Promise returns the state that CHECK holds the host against.
	Promise(Facts) (linkspec.State, error)
	// Repairs tells whether CHECK was asked to bring the promise about again.
	Repairs() bool
}

// Facts are what a plan needs to know of the host: the observed links, by the
// key that Observe gave.
type Facts map[string]linkspec.Link

// Delegate is an IPAM plugin and how to call it.
type Delegate struct {
	Type  string // name of the binary in CNI_PATH
	Args  string // CNI_ARGS without our own keys
	Check bool   // whether CHECK is delegated
}

// Removal is what DEL and GC need to know: nothing that an earlier ADD said.
type Removal struct {
	Attachment attachment.Attachment // for GC only its Network
	// Names are where the attachment's tap may be found if its handle is gone.
	Names []string
	// Netns is where else than on the host the tap may be; "" for nowhere. It may
	// be gone, or somebody else's by now.
	Netns string
	// Port is true for the plugin that holds ports, false for the one that
	// owns taps.
	Port bool
	// Bridge is what to remove when its last port is gone; "" for none.
	Bridge string
	// Gateway is the device with the gateway's address in the VLAN that the
	// configuration names; "" for none.
	Gateway  string
	Delegate *Delegate
	// Masquerades are what may be masqueraded for the attachment, one for each
	// backend that may have been used; Joined is the bridge whose ports rely on it, and on an
	// uplink.
	Masquerades []linkspec.Masquerade
	Joined      string
}

// Needs is what an ADD would need of the host.
type Needs struct {
	Tun       bool   // to make taps
	Bridge    string // whose ports are not used up; "" for none
	MustExist bool   // the bridge belongs to somebody else
	VLANs     bool   // of a kernel that tells them apart on bridges

	// Observe gives the keys of links that Fits, nil for nothing, holds against the
	// configuration.
	Observe []string
	Fits    func(Facts) error
	// Sysctls are parameters that are as they should be, or can be set.
	Sysctls []linkspec.Sysctl

	Uplink   *Uplink // nil for none
	Delegate *Delegate
	// Masquerade is by what to masquerade; "" for not at all.
	Masquerade linkspec.NATBackend
	Guard      bool // to hold guests to themselves
	// Closed is the bridge whose guests reach a part of the host at most; "" for none.
	Closed    string
	Unguarded bool // guests may send what they like: nothing is needed, but somebody should know
}

// Host is what a plan asks the host: its user database, and its kernel.
type Host interface {
	// CanShorten tells whether there can be shortcuts to taps in other namespaces.
	CanShorten() (bool, error)
	User(name string) (uint32, error)
	Group(name string) (uint32, error)
}

func identity(c config.Common, rt config.Runtime) attachment.Attachment {
	return attachment.Attachment{Network: c.Network, ContainerID: rt.ContainerID, IfName: rt.IfName}
}

// guestOf returns the guest's NIC in a result: the one interface whose sandbox
// is the container ID.
func guestOf(r *types100.Result, containerID string) (nic *types100.Interface, index int) {
	if r == nil {
		return nil, -1
	}
	for i, in := range r.Interfaces {
		if in.Sandbox == containerID {
			return in, i
		}
	}
	return nil, -1
}

// onHost returns the interface of that name in the host's namespace.
func onHost(r *types100.Result, name string) *types100.Interface {
	if r == nil {
		return nil
	}
	for _, in := range r.Interfaces {
		if in.Name == name && in.Sandbox == "" {
			return in
		}
	}
	return nil
}

func parseMAC(in *types100.Interface) net.HardwareAddr {
	if in == nil {
		return nil
	}
	mac, err := net.ParseMAC(in.Mac)
	if err != nil || len(mac) != 6 {
		return nil
	}
	return mac
}

func delegate(ipam *config.IPAM, args string) *Delegate {
	if ipam == nil {
		return nil
	}
	return &Delegate{Type: ipam.Type, Args: args, Check: ipam.Check}
}
