package config

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// IPAM is what the bridge plugin reads of the "ipam" section. The IPAM plugin
// itself gets the configuration as it came.
type IPAM struct {
	Type     string // name of the IPAM plugin's file in CNI_PATH
	Check    bool   // delegate CHECK too
	Families Families

	// Subnets are those that guests' addresses come from, as far as the section and
	// the runtime tell.
	Subnets []netip.Prefix
}

// Families tells which address families a configuration asks for. None at all
// means that it is not to be seen, and any will do.
type Families struct{ IPv4, IPv6 bool }

// Accept tells whether an address of that family was asked for.
func (f Families) Accept(addr netip.Addr) bool {
	if f == (Families{}) {
		return true
	}
	if addr.Unmap().Is4() {
		return f.IPv4
	}
	return f.IPv6
}

func (f *Families) add(addr netip.Addr) {
	if addr.Unmap().Is4() {
		f.IPv4 = true
	} else {
		f.IPv6 = true
	}
}

// notAddresses are keys of an "ipam" section below which a prefix is not one
// that the guest's address comes from.
var notAddresses = []string{"routes", "dns", "gateway", "resolvConf", "exclude"}

// prefixesIn returns all the prefixes in a JSON value, however an IPAM plugin
// arranges them.
func prefixesIn(v any) (all []netip.Prefix) {
	switch v := v.(type) {
	case string:
		// whereabouts writes "first-last/length"
		if prefix, err := netip.ParsePrefix(v[strings.LastIndexByte(v, '-')+1:]); err == nil {
			all = append(all, prefix)
		}
	case []any:
		for _, item := range v {
			all = append(all, prefixesIn(item)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if !slices.Contains(notAddresses, key) {
				all = append(all, prefixesIn(v[key])...)
			}
		}
	}
	return all
}

// ipam reads the "ipam" section; nil if there is none, or an empty one.
func (r *reader) ipam(c capabilities, args Args) *IPAM {
	check := !r.has("ipamCheck") || r.flag("ipamCheck")
	section := r.object("ipam")
	if r.err != nil || len(section.vals) == 0 {
		return nil
	}
	i := &IPAM{Type: section.text("type"), Check: check}
	i.Families, i.Subnets = origins(r.vals["ipam"], c, args)
	r.fail(section.err)
	r.fail(checkIPAMType(i.Type))
	if i.Type == "dhcp" {
		r.fail(cnierr.New(cnierr.Config, "use host-local, static or whereabouts, or no ipam and a DHCP server on the LAN, which the guest asks itself",
			"ipam.type: dhcp cannot work for a VM: the answer would go to the guest"))
	}
	return i
}

// origins tells where addresses may come from.
func origins(section json.RawMessage, c capabilities, args Args) (f Families, subnets []netip.Prefix) {
	for _, raw := range []json.RawMessage{section, c.ranges} {
		var v any
		if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
			continue
		}
		for _, p := range prefixesIn(v) {
			f.add(p.Addr())
			if p = p.Masked(); !p.Addr().Is4In6() && !p.IsSingleIP() && !slices.Contains(subnets, p) {
				subnets = append(subnets, p)
			}
		}
	}
	for _, s := range slices.Concat(c.ips, c.argIPs) {
		if addr, ok := parseAddr(s); ok {
			f.add(addr)
		}
	}
	for _, addr := range args.IPs {
		f.add(addr)
	}
	return f, subnets
}

// checkIPAMType keeps a configuration from running a program outside of CNI_PATH.
func checkIPAMType(name string) error {
	if name == "" {
		return cnierr.New(cnierr.Config, `name the IPAM plugin, such as "type": "host-local", or remove "ipam" for a network without addresses`,
			"ipam.type is missing")
	}
	if name == "." || name == ".." || strings.ContainsFunc(name, func(c rune) bool {
		return c == '/' || c == '\\' || unicode.IsSpace(c) || !unicode.IsPrint(c)
	}) {
		return cnierr.New(cnierr.Config, "give the bare name of a plugin in CNI_PATH, such as host-local",
			"ipam.type: %s is not the name of a plugin", quote(name))
	}
	return nil
}
