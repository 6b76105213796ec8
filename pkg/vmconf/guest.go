package vmconf

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// KernelIP returns the kernel argument "ip=..." (Documentation/admin-guide/nfs of
// Linux), for kernels with CONFIG_IP_PNP and initramfses that read it. The
// device is the guest's, "" for the only one it has.
//
// It holds the first IPv4 address, the gateway of the default route, and the
// first two IPv4 name servers, for which the guest's /etc/resolv.conf must point
// to /proc/net/pnp. Without an IPv4 address, or with a gateway outside of its
// subnet, which the kernel does not take, it is an [InexpressibleError].
func (n *NIC) KernelIP(device string) (string, error) {
	fail := func(reason string) (string, error) { return "", &InexpressibleError{Format: "ip=", Reason: reason} }
	i := slices.IndexFunc(n.Addresses, func(a Address) bool { return a.Prefix.Addr().Is4() })
	if i < 0 {
		return fail("the guest has no IPv4 address")
	}
	if !printable(device) || strings.Contains(device, ":") {
		return fail(fmt.Sprintf("%q is no name of a device", device))
	}
	prefix := n.Addresses[i].Prefix
	gateway := ""
	if via := n.defaultRoute(); via.IsValid() {
		if !prefix.Contains(via) {
			return fail(fmt.Sprintf("the gateway %s is not in the subnet of %s", via, prefix))
		}
		gateway = via.String()
	}
	mask := net.IP(net.CIDRMask(prefix.Bits(), 32)).String()
	fields := []string{prefix.Addr().String(), "", gateway, mask, "", device, "off"}
	for _, server := range n.DNS.Nameservers {
		if server.Is4() && len(fields) < 9 {
			fields = append(fields, server.String())
		}
	}
	return "ip=" + strings.Join(fields, ":"), nil
}

// defaultRoute is the gateway of the IPv4 default route with the lowest metric, the
// first of these, and the zero Addr for none.
func (n *NIC) defaultRoute() netip.Addr {
	var best Route
	for _, r := range n.Routes {
		if r.Dst.Bits() == 0 && r.Dst.Addr().Is4() && r.Via.IsValid() && r.Table == nil && (!best.Via.IsValid() || r.Priority < best.Priority) {
			best = r
		}
	}
	return best.Via
}

type networkConfig struct {
	Version   int                 `json:"version"`
	Ethernets map[string]ethernet `json:"ethernets"`
}

type ethernet struct {
	Match       map[string]string `json:"match"`
	SetName     string            `json:"set-name"`
	MTU         int               `json:"mtu,omitempty"`
	Addresses   []string          `json:"addresses,omitempty"`
	Routes      []networkRoute    `json:"routes,omitempty"`
	Nameservers *nameservers      `json:"nameservers,omitempty"`
}

type networkRoute struct {
	To     string `json:"to"`
	Via    string `json:"via,omitempty"`
	OnLink bool   `json:"on-link,omitempty"`
	Scope  string `json:"scope,omitempty"`
	Metric int    `json:"metric,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
	Table  *int   `json:"table,omitempty"`
}

type nameservers struct {
	Addresses []string `json:"addresses,omitempty"`
	Search    []string `json:"search,omitempty"`
}

// CloudInit returns the file network-config of cloud-init, version 2, in JSON,
// which is YAML too. The keys are the names that the devices get in the guest,
// which finds them by their MAC addresses. Two NICs of one MAC address are an
// [InexpressibleError].
func CloudInit(nics map[string]*NIC) ([]byte, error) {
	config := networkConfig{Version: 2, Ethernets: map[string]ethernet{}}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(nics)) {
		n := nics[name]
		mac := n.MAC.String()
		if other, ok := seen[mac]; ok {
			return nil, &InexpressibleError{Format: "cloud-init", Reason: fmt.Sprintf("%s and %s have the same MAC address %s", other, name, mac)}
		}
		seen[mac] = name
		e := ethernet{Match: map[string]string{"macaddress": mac}, SetName: name, MTU: n.MTU}
		for _, a := range n.Addresses {
			e.Addresses = append(e.Addresses, a.Prefix.String())
		}
		for _, r := range n.Routes {
			e.Routes = append(e.Routes, n.networkRoute(r))
		}
		if s := (nameservers{texts(n.DNS.Nameservers), n.DNS.domains()}); len(s.Addresses)+len(s.Search) > 0 {
			e.Nameservers = &s
		}
		config.Ethernets[name] = e
	}
	return json.MarshalIndent(config, "", "  ")
}

func (n *NIC) networkRoute(r Route) networkRoute {
	out := networkRoute{To: r.Dst.String(), Metric: r.Priority, MTU: r.MTU, Table: r.Table}
	if r.Via.IsValid() {
		out.Via, out.OnLink = r.Via.String(), !n.reached(r.Via)
	} else {
		out.Scope = "link"
	}
	if r.Scope != nil && scopes[*r.Scope] != "" {
		out.Scope = scopes[*r.Scope]
	}
	return out
}

// scopes are the kernel's that have a name in the formats.
var scopes = map[int]string{0: "global", scopeLink: "link", 254: "host"}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

// Networkd returns a .network file of systemd-networkd for the guest, which finds
// the device by its MAC address.
func (n *NIC) Networkd() string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s=%v\n", key, value) }
	number := func(key string, value int) {
		if value > 0 {
			line(key, value)
		}
	}
	b.WriteString("[Match]\n")
	line("MACAddress", n.MAC)
	if n.MTU > 0 {
		b.WriteString("\n[Link]\n")
		line("MTUBytes", n.MTU)
	}
	b.WriteString("\n[Network]\n")
	for _, a := range n.Addresses {
		line("Address", a.Prefix)
	}
	for _, s := range n.DNS.Nameservers {
		line("DNS", s)
	}
	if domains := n.DNS.domains(); len(domains) > 0 {
		line("Domains", strings.Join(domains, " "))
	}
	for _, r := range n.Routes {
		b.WriteString("\n[Route]\n")
		line("Destination", r.Dst)
		route := n.networkRoute(r)
		if r.Via.IsValid() {
			line("Gateway", r.Via)
		}
		if route.OnLink {
			line("GatewayOnLink", "yes")
		}
		if route.Scope != "" {
			line("Scope", route.Scope)
		}
		number("Metric", r.Priority)
		number("MTUBytes", r.MTU)
		number("TCPAdvertisedMaximumSegmentSize", r.AdvMSS)
		if r.Table != nil {
			line("Table", *r.Table)
		}
	}
	return b.String()
}
