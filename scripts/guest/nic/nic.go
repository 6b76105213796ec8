package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

type result struct {
	Interfaces []struct {
		Name    string
		Mac     string
		Mtu     int
		Sandbox string
	}
	IPs []struct {
		Address   netip.Prefix
		Gateway   *netip.Addr
		Interface *int
	}
	Routes []struct {
		Dst netip.Prefix
		Gw  *netip.Addr
	}
}

func run(in io.Reader, out io.Writer) error {
	var r result
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("read CNI result: %w", err)
	}
	// The bridge comes first; the guest's own device is the first one with a sandbox; the VMM opens
	// the tap of the same name.
	guest := -1
	for i, link := range r.Interfaces {
		if link.Sandbox != "" {
			guest = i
			break
		}
	}
	if guest < 0 {
		return errors.New("find the guest's device: no interface of the result has a sandbox")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "bridge %s\ntap %s\nmac %s\n", r.Interfaces[0].Name, r.Interfaces[guest].Name, r.Interfaces[guest].Mac)
	if mtu := r.Interfaces[guest].Mtu; mtu > 0 {
		fmt.Fprintf(&text, "mtu %d\n", mtu)
	}
	gateways := map[bool]netip.Addr{} // by "is IPv4"
	for _, ip := range r.IPs {
		if ip.Interface != nil && *ip.Interface != guest {
			continue
		}
		fmt.Fprintf(&text, "address %s\n", ip.Address)
		if ip.Gateway != nil {
			fmt.Fprintf(&text, "gateway %s\n", ip.Gateway)
			gateways[ip.Address.Addr().Is4()] = *ip.Gateway
		}
	}
	for _, route := range r.Routes {
		via := gateways[route.Dst.Addr().Is4()] // a route without a gateway of its own goes there
		if route.Gw != nil {
			via = *route.Gw
		}
		if via.IsValid() {
			fmt.Fprintf(&text, "route %s %s\n", route.Dst, via)
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}
