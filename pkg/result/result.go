// Package result makes the CNI result out of what ADD brought about. Its shape
// is a contract: runtimes and the plugins that are chained after ours read it.
//
// Interfaces, in this order: the bridge (a chained firewall plugin takes the
// first for the bridge); the tap, with an empty sandbox if it is in the host's
// namespace, else with the path of the namespace that it is in; the guest's own
// NIC, which has the tap's name, the guest's MAC address, and the container ID as
// its sandbox; then, if the tap is not on the host, the port of the bridge that
// stands in for it, with an empty sandbox. What an earlier plugin listed beside
// these follows. Addresses point at the guest's NIC.
//
// Runtimes that start the VMM in the tap's namespace want just one address on the
// guest's NIC (firecracker-go-sdk fails on a second). There, the first address of
// IPv4, or of IPv6 if there is no other, is the guest's NIC's, and all others point
// at the tap.
//
// Where the tap is not named after CNI_IFNAME an interface of that name in
// CNI_NETNS comes last, with a copy of each address: it is what portmap, and
// scripts that look for their CNI_IFNAME, find the guest's addresses by.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Answer is what a plan wants its ADD to answer. MAC addresses and MTUs that
// are not in it are read off the links.
type Answer struct {
	Bridge      string // name; "" for none
	Tap         string
	TapNetns    string // path of the network namespace that the tap is in; "" for the host's
	Port        string // name of the port that stands in for the tap; "" for none
	GuestMAC    net.HardwareAddr
	ContainerID string
	IfName      string // CNI_IFNAME
	Netns       string // CNI_NETNS

	IPs    []*types100.IPConfig // of the guest; Interface is filled in here
	Routes []*types.Route
	DNS    types.DNS
}

// Build returns the result of ADD: what the earlier plugins said, and ours. The
// links are those read back, by key.
func Build(prev *types100.Result, a Answer, links map[string]linkspec.Link) *types100.Result {
	b := builder{r: &types100.Result{DNS: a.DNS, Routes: a.Routes}, moved: map[int]int{}}
	if a.Bridge != "" {
		b.add(onHost(links[a.Bridge]))
	}
	tap := onHost(links[linkspec.Key(a.TapNetns, a.Tap)])
	tap.Sandbox = a.TapNetns
	device := b.add(tap)
	guest := b.add(&types100.Interface{Name: a.Tap, Mac: a.GuestMAC.String(), Mtu: tap.Mtu, Sandbox: a.ContainerID})
	if a.Port != "" {
		b.add(onHost(links[a.Port]))
	}
	if prev != nil {
		b.take(prev)
	}
	if a.TapNetns == "" {
		b.addresses(a.IPs, guest)
	} else {
		one, others := single(a.IPs)
		b.addresses(one, guest)
		b.addresses(others, device)
	}
	if len(a.IPs) > 0 && a.IfName != a.Tap && a.Netns != "" {
		alias := b.add(&types100.Interface{Name: a.IfName, Mac: a.GuestMAC.String(), Mtu: tap.Mtu, Sandbox: a.Netns})
		b.addresses(a.IPs, alias)
	}
	return b.r
}

type builder struct {
	r     *types100.Result
	moved map[int]int // index of an interface in prevResult -> index here
}

// add lists an interface, once, and returns its index. One that an earlier plugin
// listed stays as it is.
func (b *builder) add(in *types100.Interface) int {
	for i, have := range b.r.Interfaces {
		if have.Name == in.Name && have.Sandbox == in.Sandbox {
			return i
		}
	}
	b.r.Interfaces = append(b.r.Interfaces, in)
	return len(b.r.Interfaces) - 1
}

// take passes on what earlier plugins said.
func (b *builder) take(prev *types100.Result) {
	for i, in := range prev.Interfaces {
		b.moved[i] = b.add(in.Copy())
	}
	for _, ip := range prev.IPs {
		kept := ip.Copy()
		kept.Interface = nil
		if ip.Interface != nil {
			if at, ok := b.moved[*ip.Interface]; ok {
				kept.Interface = &at
			}
		}
		b.r.IPs = append(b.r.IPs, kept)
	}
	routes := make([]*types.Route, 0, len(prev.Routes)+len(b.r.Routes))
	for _, route := range prev.Routes {
		routes = append(routes, route.Copy())
	}
	b.r.Routes = append(routes, b.r.Routes...)
	if b.r.DNS.IsEmpty() {
		b.r.DNS = *prev.DNS.Copy()
	}
}

func (b *builder) addresses(ips []*types100.IPConfig, at int) {
	for _, ip := range ips {
		bound := ip.Copy()
		bound.Interface = &at
		b.r.IPs = append(b.r.IPs, bound)
	}
}

// single takes the first address of IPv4, or else the first, out of the others.
func single(ips []*types100.IPConfig) (one, others []*types100.IPConfig) {
	if len(ips) == 0 {
		return nil, nil
	}
	i := max(0, slices.IndexFunc(ips, func(ip *types100.IPConfig) bool { return ip.Address.IP.To4() != nil }))
	return ips[i : i+1], slices.Delete(slices.Clone(ips), i, i+1)
}

func onHost(l linkspec.Link) *types100.Interface {
	in := &types100.Interface{Name: l.Name, Mac: l.MAC.String()}
	if l.MTU != nil {
		in.Mtu = *l.MTU
	}
	return in
}

// Print writes the result in the given version of the specification. Fields
// that the version does not know are left out.
func Print(w io.Writer, r *types100.Result, cniVersion string) error {
	old, err := version.GreaterThan("1.1.0", cniVersion)
	if err != nil {
		return cnierr.New(cnierr.Version, "use a cniVersion from 0.3.0 to 1.1.0", "parse cniVersion %q: %w", cniVersion, err)
	}
	if old {
		r = before110(r)
	}
	converted, err := r.GetAsVersion(cniVersion)
	if err != nil {
		return cnierr.New(cnierr.Version, "use a cniVersion from 0.3.0 to 1.1.0", "convert result to version %s: %w", cniVersion, err)
	}
	if err := converted.PrintTo(w); err != nil {
		return cnierr.New(cnierr.IO, "the runtime closed the plugin's output before it was written", "write result: %w", err)
	}
	return nil
}

// before110 leaves out what version 1.1.0 brought: the library converts 1.1.0
// to 1.0.0 by changing the number only.
func before110(r *types100.Result) *types100.Result {
	out := *r
	out.Interfaces = nil
	for _, in := range r.Interfaces {
		out.Interfaces = append(out.Interfaces, &types100.Interface{Name: in.Name, Mac: in.Mac, Sandbox: in.Sandbox})
	}
	out.Routes = nil
	for _, route := range r.Routes {
		out.Routes = append(out.Routes, &types.Route{Dst: route.Dst, GW: route.GW})
	}
	return &out
}

// Parse reads a result of any version.
func Parse(r types.Result) (*types100.Result, error) {
	if err := whole(r); err != nil {
		return nil, err
	}
	converted, err := types100.NewResultFromResult(r)
	if err != nil {
		return nil, fmt.Errorf("convert result: %w", err)
	}
	return converted, nil
}

// whole refuses a null in a list: the conversion between versions, and whoever
// reads the result after it, would crash on it.
func whole(r types.Result) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("read result: %w", err)
	}
	var lists struct{ Interfaces, IPs, Routes []json.RawMessage }
	if err := json.Unmarshal(text, &lists); err != nil {
		return fmt.Errorf("read result: %w", err)
	}
	for _, item := range slices.Concat(lists.Interfaces, lists.IPs, lists.Routes) {
		if string(item) == "null" {
			return errors.New("there is a null in interfaces, ips or routes")
		}
	}
	return nil
}
