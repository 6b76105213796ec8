package vmconf

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// addresses takes the guest's addresses out of the result, each once.
func (n *NIC) addresses(r *types100.Result, guest, tap *types100.Interface) error {
	for i, ip := range r.IPs {
		if ip.Interface == nil {
			continue
		}
		if *ip.Interface < 0 || *ip.Interface >= len(r.Interfaces) {
			return fmt.Errorf("read address %d: there is no interface %d", i, *ip.Interface)
		}
		if in := r.Interfaces[*ip.Interface]; in != guest && in != tap {
			continue
		}
		prefix, err := prefixOf(ip.Address)
		if err != nil {
			return fmt.Errorf("read address %d: %w", i, err)
		}
		if addr := prefix.Addr(); addr.IsUnspecified() || addr.IsMulticast() {
			return fmt.Errorf("read address %d: %s is no address of a host", i, prefix)
		}
		if slices.ContainsFunc(n.Addresses, func(a Address) bool { return a.Prefix == prefix }) {
			continue
		}
		gateway, err := addrOf(ip.Gateway)
		if err != nil {
			return fmt.Errorf("read gateway of %s: %w", prefix, err)
		}
		n.Addresses = append(n.Addresses, Address{Prefix: prefix, Gateway: gateway})
	}
	return nil
}

// gateway is where routes of the family go that do not say where.
func (n *NIC) gateway(is4 bool) netip.Addr {
	for _, a := range n.Addresses {
		if a.Prefix.Addr().Is4() == is4 && a.Gateway.IsValid() {
			return a.Gateway
		}
	}
	return netip.Addr{}
}

func (n *NIC) routes(routes []*types.Route) error {
	for i, from := range routes {
		dst, err := prefixOf(from.Dst)
		if err != nil {
			return fmt.Errorf("read route %d: %w", i, err)
		}
		via, err := addrOf(from.GW)
		if err != nil {
			return fmt.Errorf("read gateway of route %s: %w", dst, err)
		}
		if !via.IsValid() && !onLink(from) {
			via = n.gateway(dst.Addr().Is4())
		}
		n.Routes = append(n.Routes, Route{
			Dst: dst.Masked(), Via: via, MTU: from.MTU, AdvMSS: from.AdvMSS, Priority: from.Priority, Table: from.Table, Scope: from.Scope,
		})
	}
	return nil
}

const scopeLink = 253 // RT_SCOPE_LINK, and above it what is nearer still

// onLink tells whether a route says that it wants no gateway.
func onLink(r *types.Route) bool { return r.Scope != nil && *r.Scope >= scopeLink }

// reached tells whether the guest finds that address on its link without being told so.
func (n *NIC) reached(via netip.Addr) bool {
	return via.Is6() && via.IsLinkLocalUnicast() || slices.ContainsFunc(n.Addresses, func(a Address) bool { return a.Prefix.Contains(via) })
}

func (n *NIC) dns(from types.DNS) error {
	for _, text := range from.Nameservers {
		server, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("read name server: %q is no IP address", text)
		}
		n.DNS.Nameservers = append(n.DNS.Nameservers, server.Unmap())
	}
	for _, words := range [][]string{{from.Domain}, from.Search, from.Options} {
		for _, word := range words {
			if !printable(word) {
				return fmt.Errorf("read DNS: %q is not one word", word)
			}
		}
	}
	n.DNS.Domain, n.DNS.Search, n.DNS.Options = from.Domain, slices.Clone(from.Search), slices.Clone(from.Options)
	return nil
}

// domains is the search list with the domain in front: they are one in most formats.
func (d DNS) domains() []string {
	if d.Domain == "" || slices.Contains(d.Search, d.Domain) {
		return d.Search
	}
	return append([]string{d.Domain}, d.Search...)
}

func prefixOf(n net.IPNet) (netip.Prefix, error) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, size := n.Mask.Size()
	if addr = addr.Unmap(); size == 128 && addr.Is4() {
		ones -= 96
	}
	p := netip.PrefixFrom(addr, ones)
	if !ok || size == 0 || !p.IsValid() {
		return netip.Prefix{}, fmt.Errorf("%q is no address with a prefix length", n.String())
	}
	return p, nil
}

// addrOf is the zero Addr for none.
func addrOf(ip net.IP) (netip.Addr, error) {
	if len(ip) == 0 {
		return netip.Addr{}, nil
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%v is no IP address", []byte(ip))
	}
	return addr.Unmap(), nil
}
