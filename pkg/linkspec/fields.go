package linkspec

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// rule says how a declared field is held against an observed one.
type rule int

const (
	equal rule = iota // the one observed value is the declared one
	has               // every declared value is among the observed
	lacks             // no declared value is among the observed
)

// field is all that this package knows about one field of a Link.
type field struct {
	name string
	rule rule
	// texts are the values, none where the field is not declared.
	texts func(*Link) []string
	// observed are the values to compare with, where they are not texts.
	observed func(*Link) []string
	// take copies the field from a declared link.
	take func(dst, src *Link)
	// undo puts into dst what turns want, once set, back into what got was.
	undo func(dst *Link, want, got *Link)
	// optional fields are no difference where the kernel does not tell them: it
	// has been asked for them, and knows no better.
	optional bool
}

// fields holds every field of Link that can be declared, in the order in which
// they are printed.
var fields = []field{
	{
		name: "altname", rule: has, texts: func(l *Link) []string { return l.AltNames },
		take: func(dst, src *Link) { dst.AltNames = src.AltNames },
		undo: func(dst, want, got *Link) { dst.NoAltNames = without(want.AltNames, got.AltNames) },
	},
	{
		name: "no altname", rule: lacks, texts: func(l *Link) []string { return l.NoAltNames },
		observed: func(l *Link) []string { return l.AltNames },
		take:     func(dst, src *Link) { dst.NoAltNames = src.NoAltNames },
		undo:     func(dst, want, got *Link) { dst.AltNames = both(want.NoAltNames, got.AltNames) },
	},
	scalar("alias", func(l *Link) **string { return &l.Alias }, strconv.Quote),
	{
		name: "link/ether", texts: func(l *Link) []string { return macText(l.MAC) },
		take: func(dst, src *Link) { dst.MAC = src.MAC },
		undo: func(dst, _, got *Link) { dst.MAC = got.MAC },
	},
	scalar("mtu", func(l *Link) **int { return &l.MTU }, strconv.Itoa),
	scalar("qlen", func(l *Link) **int { return &l.TxQueueLen }, strconv.Itoa),
	scalar("promisc", func(l *Link) **bool { return &l.Promisc }, onOff),
	scalar("master", func(l *Link) **string { return &l.Master }, orNone),
	scalar("ipv6", func(l *Link) **bool { return &l.IPv6 }, onOff),
	scalar("accept_ra", func(l *Link) **bool { return &l.AcceptRA }, onOff),
	scalar("arp_ignore", func(l *Link) **bool { return &l.ARPIgnore }, onOff),
	scalar("forwarding", func(l *Link) **bool { return &l.Forwarding }, onOff),
	scalar("user", func(l *Link) **uint32 { return &l.Owner }, id),
	scalar("group", func(l *Link) **uint32 { return &l.Group }, id),
	scalar("multi_queue", func(l *Link) **bool { return &l.MultiQueue }, onOff),
	scalar("persist", func(l *Link) **bool { return &l.Persist }, onOff),
	scalar("splice", func(l *Link) **string { return &l.Splice }, orNone),
	scalar("unqueued", func(l *Link) **bool { return &l.Unqueued }, onOff),
	scalar("shortcut", func(l *Link) **string { return &l.Shortcut }, orNone),
	scalar("deaf", func(l *Link) **bool { return &l.Deaf }, onOff),
	scalar("state", func(l *Link) **bool { return &l.Disabled }, portState),
	scalar("hairpin", func(l *Link) **bool { return &l.Hairpin }, onOff),
	scalar("isolated", func(l *Link) **bool { return &l.Isolated }, onOff),
	scalar("learning", func(l *Link) **bool { return &l.Learning }, onOff),
	scalar("flood", func(l *Link) **bool { return &l.UnicastFlood }, onOff),
	scalar("bcast_flood", func(l *Link) **bool { return &l.BroadFlood }, onOff),
	scalar("mcast_flood", func(l *Link) **bool { return &l.McastFlood }, onOff),
	scalar("bpdu_guard", func(l *Link) **bool { return &l.BPDUGuard }, onOff),
	scalar("root_block", func(l *Link) **bool { return &l.RootBlock }, onOff),
	ifKnown(scalar("mcast_router", func(l *Link) **bool { return &l.McastRouter }, onOff)),
	scalar("proxy_arp", func(l *Link) **bool { return &l.ProxyARP }, onOff),
	ifKnown(scalar("locked", func(l *Link) **bool { return &l.Locked }, onOff)),
	scalar("vlan_filtering", func(l *Link) **bool { return &l.VLANFiltering }, onOff),
	{
		name: "vlan", texts: func(l *Link) []string { return vlanTexts(l.VLANs) },
		take: func(dst, src *Link) { dst.VLANs = src.VLANs },
		undo: func(dst, _, got *Link) { dst.VLANs = got.VLANs },
	},
	{
		name: "in vlan", rule: has, texts: func(l *Link) []string { return idTexts(l.InVLANs) },
		observed: func(l *Link) []string { return vlanIDs(l.VLANs) },
		take:     func(dst, src *Link) { dst.InVLANs = src.InVLANs },
		undo:     func(*Link, *Link, *Link) {}, // they go when the port leaves the bridge
	},
	scalar("link", func(l *Link) **string { return &l.Parent }, orNone),
	scalar("vlan id", func(l *Link) **int { return &l.VLANID }, strconv.Itoa),
	scalar("carried", func(l *Link) **bool { return &l.Carried }, onOff),
	{
		name: "guard", texts: func(l *Link) []string { return guardTexts(l.Guard) },
		take: func(dst, src *Link) { dst.Guard = src.Guard },
		undo: func(dst, _, got *Link) {
			if dst.Guard = got.Guard; dst.Guard == nil { // it was no port
				dst.Guard = &Guard{}
			}
		},
	},
	{
		name: "fdb", rule: has, texts: func(l *Link) []string { return macTexts(l.Stations) },
		take: func(dst, src *Link) { dst.Stations = src.Stations },
		undo: func(*Link, *Link, *Link) {}, // they go when the port leaves the bridge
	},
	{
		name: "no fdb", rule: lacks, texts: func(l *Link) []string { return macTexts(l.NoStations) },
		observed: func(l *Link) []string { return macTexts(l.Stations) },
		take:     func(dst, src *Link) { dst.NoStations = src.NoStations },
		undo:     func(dst, _, got *Link) { dst.Stations = slices.Clone(got.Stations) },
	},
	{
		name: "limit", texts: func(l *Link) []string { return l.Shaping.texts() },
		take: func(dst, src *Link) { dst.Shaping = src.Shaping },
		undo: func(dst, _, got *Link) { dst.Shaping = got.Shaping },
	},
	{
		name: "inet", rule: has, texts: func(l *Link) []string { return addressTexts(l.Addresses) },
		observed: func(l *Link) []string { return seenTexts(l.Addresses) },
		take:     func(dst, src *Link) { dst.Addresses = src.Addresses },
		undo:     func(dst, want, got *Link) { dst.NoAddresses = added(want.Addresses, got.Addresses) },
	},
	{
		name: "no inet", rule: lacks, texts: func(l *Link) []string { return prefixTexts(l.NoAddresses) },
		observed: func(l *Link) []string { return addressTexts(l.Addresses) },
		take:     func(dst, src *Link) { dst.NoAddresses = src.NoAddresses },
		undo:     func(dst, want, got *Link) { dst.Addresses = removed(want.NoAddresses, got.Addresses) },
	},
	scalar("up", func(l *Link) **bool { return &l.Up }, onOff),
}

// scalar is a field that holds one value.
func scalar[T any](name string, at func(*Link) **T, text func(T) string) field {
	return field{
		name: name,
		texts: func(l *Link) []string {
			if v := *at(l); v != nil {
				return []string{text(*v)}
			}
			return nil
		},
		take: func(dst, src *Link) { *at(dst) = *at(src) },
		undo: func(dst, _, got *Link) { *at(dst) = *at(got) },
	}
}

// ifKnown makes a field one that not every kernel has.
func ifKnown(f field) field {
	f.optional = true
	return f
}

// differs compares one field of a declared link with the observed one, and
// returns what is wanted and what there is, for a reader.
func (f *field) differs(want, got *Link) (wanted, found []string) {
	values := f.texts(want)
	if len(values) == 0 {
		return nil, nil
	}
	observe := f.observed
	if observe == nil {
		observe = f.texts
	}
	seen := observe(got)
	switch f.rule {
	case has:
		wanted = without(values, seen)
	case lacks:
		wanted = both(values, seen)
	case equal:
		if !slices.Equal(values, seen) {
			wanted = values
		}
	}
	if wanted == nil {
		return nil, nil
	}
	return wanted, seen
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// portState is in words of `bridge link`.
func portState(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "forwarding"
}

func id(n uint32) string {
	if n == NoID {
		return "none"
	}
	return strconv.FormatUint(uint64(n), 10)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func macText(mac net.HardwareAddr) []string {
	if mac == nil {
		return nil
	}
	return []string{mac.String()}
}

func guardTexts(g *Guard) []string {
	switch {
	case g == nil:
		return nil
	case g.Off() && g.Instead != "":
		return []string{"off (" + g.Instead + ")"}
	case g.Off():
		return []string{"off"}
	}
	return g.Texts()
}

func macTexts(macs []net.HardwareAddr) []string {
	var texts []string
	for _, mac := range macs {
		texts = append(texts, mac.String())
	}
	return texts
}

// addressTexts leaves out addresses that failed duplicate address detection:
// to the rest of the network they are not there.
func addressTexts(addrs []Address) []string {
	var texts []string
	for _, a := range addrs {
		if !a.Failed {
			texts = append(texts, a.Prefix.String()+a.detection())
		}
	}
	return texts
}

// detection is how an exact address is told from one that differs in that only.
func (a Address) detection() string {
	switch {
	case !a.Exact || a.Prefix.Addr().Is4():
		return ""
	case a.NoDAD:
		return " nodad"
	}
	return " dad"
}

// seenTexts are observed addresses in both forms in which they may be declared.
func seenTexts(addrs []Address) []string {
	texts := addressTexts(addrs)
	for _, a := range addrs {
		if a.Exact = true; !a.Failed && a.detection() != "" {
			texts = append(texts, a.Prefix.String()+a.detection())
		}
	}
	return texts
}

func idTexts(ids []int) []string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, strconv.Itoa(id))
	}
	return texts
}

func vlanIDs(vlans []VLAN) []string {
	var ids []int
	for _, v := range vlans {
		ids = append(ids, v.ID)
	}
	return idTexts(ids)
}

func prefixTexts(prefixes []netip.Prefix) []string {
	var texts []string
	for _, p := range prefixes {
		texts = append(texts, p.String())
	}
	return texts
}

// without is a less b.
func without(a, b []string) []string {
	var rest []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// both is what a and b have in common.
func both(a, b []string) []string {
	var common []string
	for _, s := range a {
		if slices.Contains(b, s) {
			common = append(common, s)
		}
	}
	return common
}

func hasPrefix(addrs []Address, p netip.Prefix) bool {
	return slices.ContainsFunc(addrs, func(a Address) bool { return a.Prefix == p })
}

// added are the prefixes of want that got lacks.
func added(want, got []Address) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range want {
		if !hasPrefix(got, a.Prefix) {
			prefixes = append(prefixes, a.Prefix)
		}
	}
	return prefixes
}

// removed are the addresses of got that have one of the prefixes.
func removed(prefixes []netip.Prefix, got []Address) []Address {
	var addrs []Address
	for _, a := range got {
		if slices.Contains(prefixes, a.Prefix) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
