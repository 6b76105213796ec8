package config

import (
	"encoding/json"
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
var notAddresses = []string{"routes", "dns", "gateway", "resolvConf"}

// addAll adds the families of all the prefixes in a JSON value, however an IPAM
// plugin arranges them.
func (f *Families) addAll(v any) {
	switch v := v.(type) {
	case string:
		// whereabouts writes "first-last/length"
		if prefix, err := netip.ParsePrefix(v[strings.LastIndexByte(v, '-')+1:]); err == nil {
			f.add(prefix.Addr())
		}
	case []any:
		for _, item := range v {
			f.addAll(item)
		}
	case map[string]any:
		for key, item := range v {
			if !slices.Contains(notAddresses, key) {
				f.addAll(item)
			}
		}
	}
}

// ipam reads the "ipam" section; nil if there is none, or an empty one.
func (r *reader) ipam(c capabilities, args Args) *IPAM {
	check := !r.has("ipamCheck") || r.flag("ipamCheck")
	section := r.object("ipam")
	if r.err != nil || len(section.vals) == 0 {
		return nil
	}
	i := &IPAM{Type: section.text("type"), Check: check, Families: families(r.vals["ipam"], c, args)}
	r.fail(section.err)
	r.fail(checkIPAMType(i.Type))
	if i.Type == "dhcp" {
		r.fail(cnierr.New(cnierr.Config, "use host-local, static or whereabouts, or no ipam and a DHCP server on the LAN, which the guest asks itself",
			"ipam.type: dhcp cannot work for a VM: the answer would go to the guest"))
	}
	return i
}

func families(section json.RawMessage, c capabilities, args Args) Families {
	var f Families
	for _, raw := range []json.RawMessage{section, c.ranges} {
		var v any
		if len(raw) > 0 && json.Unmarshal(raw, &v) == nil {
			f.addAll(v)
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
	return f
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
