package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Args are the CNI_ARGS that the plugins know, and what is left for the IPAM
// plugin.
type Args struct {
	MAC      net.HardwareAddr // the guest's; nil if not given
	IPs      []netip.Addr     // that the IPAM plugin is asked for
	Gateways []netip.Addr
	TapName  string // "" if not given
	TapOwner *ID
	TapGroup *ID
	Repair   bool // for CHECK

	// ForDelegate are the CNI_ARGS without those that are ours, in the order
	// given: an IPAM plugin refuses what it does not know.
	ForDelegate string
}

// ownArgs are ours, and kept from the IPAM plugin. IP and GATEWAY are its own.
var (
	ownArgs      = []string{"MAC", "TAP_NAME", "TAP_OWNER", "TAP_GROUP", "REPAIR", "TC_REDIRECT_TAP_NAME", "TC_REDIRECT_TAP_UID", "TC_REDIRECT_TAP_GID"}
	delegateArgs = []string{"IP", "GATEWAY", "IgnoreUnknown"}
	synonyms     = map[string]string{
		"TC_REDIRECT_TAP_NAME": "TAP_NAME",
		"TC_REDIRECT_TAP_UID":  "TAP_OWNER",
		"TC_REDIRECT_TAP_GID":  "TAP_GROUP",
	}
)

// ParseArgs reads CNI_ARGS, "K=V;K=V". Keys are exact, as the CNI library has
// them. Its errors have the code Environment.
func ParseArgs(s string) (Args, error) {
	p := argParser{given: map[string]string{}}
	for pair := range pairs(s) {
		if err := p.add(pair); err != nil {
			return Args{}, err
		}
	}
	if i := slices.IndexFunc(p.rest, func(a arg) bool { return a.foreign }); i >= 0 && !p.ignoreUnknown {
		return Args{}, unknownArg(p.rest[i].key)
	}
	return p.result(), nil
}

// argsForRemoval takes of CNI_ARGS what can be used, and hands on to the IPAM
// plugin nothing that would keep it from releasing the lease.
func argsForRemoval(s string) Args {
	p := argParser{given: map[string]string{}}
	for pair := range pairs(s) {
		_ = p.add(pair) // what ADD refused has brought nothing about
	}
	if !p.ignoreUnknown {
		p.rest = slices.DeleteFunc(p.rest, func(a arg) bool { return a.foreign })
	}
	return p.result()
}

// pairs yields the pairs of CNI_ARGS.
func pairs(s string) func(yield func(string) bool) {
	if s == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(s, ";")
}

// arg is an argument for the IPAM plugin.
type arg struct {
	key, pair string
	foreign   bool // not known here
}

type argParser struct {
	args          Args
	given         map[string]string // values by key
	rest          []arg
	ignoreUnknown bool
}

func (p *argParser) result() Args {
	list := make([]string, 0, len(p.rest))
	for _, a := range p.rest {
		list = append(list, a.pair)
	}
	p.args.ForDelegate = strings.Join(list, ";")
	return p.args
}

// add takes one pair in, or leaves everything as it was and says why.
func (p *argParser) add(pair string) error {
	parts := strings.Split(pair, "=")
	if len(parts) != 2 || parts[0] == "" {
		return cnierr.New(cnierr.Environment, `write CNI_ARGS as "KEY=value;KEY=value", without a semicolon at the end`,
			"CNI_ARGS: %s is not KEY=value", quote(pair))
	}
	key, value := parts[0], parts[1]
	if _, twice := p.given[key]; twice {
		return cnierr.New(cnierr.Environment, "remove one of the two: it is not clear which is meant", "CNI_ARGS: %s is there twice", quote(key))
	}
	name := key
	if canonical, ok := synonyms[key]; ok {
		name = canonical
	}
	if err := p.conflict(name, key, value); err != nil {
		return err
	}
	if err := p.set(name, "CNI_ARGS "+key, value); err != nil {
		return err
	}
	p.given[key] = value
	if !slices.Contains(ownArgs, key) {
		p.rest = append(p.rest, arg{key: key, pair: pair, foreign: !slices.Contains(delegateArgs, key)})
	}
	return nil
}

// conflict tells whether another argument of the same meaning has another value.
func (p *argParser) conflict(name, key, value string) error {
	for other, v := range p.given {
		if (other == name || synonyms[other] == name) && v != value {
			return cnierr.New(cnierr.Environment, "give one of the two: they mean the same", "CNI_ARGS: %s and %s differ", other, key)
		}
	}
	return nil
}

func (p *argParser) set(name, source, value string) (err error) {
	switch name {
	case "MAC":
		p.args.MAC, err = parseMAC(cnierr.Environment, source, value)
	case "TAP_NAME":
		if err = checkName(cnierr.Environment, source, value); err == nil {
			p.args.TapName = value
		}
	case "TAP_OWNER":
		p.args.TapOwner, err = parseID(cnierr.Environment, source, value)
	case "TAP_GROUP":
		p.args.TapGroup, err = parseID(cnierr.Environment, source, value)
	case "REPAIR":
		p.args.Repair, err = parseBool(source, value)
	case "IP":
		p.args.IPs, err = parseAddrs(source, value)
	case "GATEWAY":
		p.args.Gateways, err = parseAddrs(source, value)
	case "IgnoreUnknown":
		p.ignoreUnknown, err = parseBool(source, value)
	}
	return err
}

// parseAddrs reads addresses with or without a prefix length, separated by
// commas, as the static IPAM plugin takes them.
func parseAddrs(source, list string) ([]netip.Addr, error) {
	if list == "" {
		return nil, nil
	}
	var addrs []netip.Addr
	for item := range strings.SplitSeq(list, ",") {
		addr, ok := parseAddr(strings.TrimSpace(item))
		if !ok {
			return nil, cnierr.New(cnierr.Environment, "give an IP address, with /length if the IPAM plugin wants one",
				"%s: %s is not an IP address", source, quote(item))
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// parseAddr reads an IP address with or without a prefix length.
func parseAddr(s string) (netip.Addr, bool) {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return prefix.Addr().Unmap(), true
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// parseBool reads what the CNI library reads as a truth value.
func parseBool(source, value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, cnierr.New(cnierr.Environment, "give 1 or 0", "%s: %s is neither true nor false", source, quote(value))
}

func unknownArg(key string) error {
	advice := "remove it, or add IgnoreUnknown=1 if it is for somebody else; known here: " + strings.Join(slices.Concat(ownArgs, delegateArgs), ", ")
	if near := nearest(key, slices.Concat(ownArgs, delegateArgs)); near != "" {
		advice = "did you mean " + near + "? Arguments for somebody else need IgnoreUnknown=1"
	}
	return cnierr.New(cnierr.Environment, advice, "CNI_ARGS: unknown argument %s", quote(key))
}
