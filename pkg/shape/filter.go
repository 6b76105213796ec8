package shape

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// class is what a filter is for. Each has a priority of its own, because the
// filters of one priority serve one protocol.
type class uint16

const (
	classIPv4 class = iota
	classIPv6
	classTaggedIPv4
	classTaggedIPv6
	classRest
	classes
)

// isTagged tells whether the filters are for frames with an 802.1Q tag, which count
// as of a protocol of their own, whatever is in them.
func (c class) isTagged() bool { return c == classTaggedIPv4 || c == classTaggedIPv6 }

// size is that of an address, in bytes; 0 where there is none to look at.
func (c class) size() int {
	switch c {
	case classIPv4, classTaggedIPv4:
		return 4
	case classIPv6, classTaggedIPv6:
		return 16
	}
	return 0
}

// priority returns that of our filters of the class: behind all others, and not
// the same at both hooks, because u32 then lists those of one at the other too.
func priority(h tc.Hook, c class) uint16 {
	if h == tc.Egress {
		c += 10
	}
	return 50000 + uint16(c)
}

// filter takes frames to an ifb device or, with device 0, lets them pass.
type filter struct {
	class    class
	protocol uint16
	subnet   netip.Prefix // that the other end is in; the zero value for any frame
	device   int
}

// filters returns what limits those frames that are to be limited, in the order
// in which they are asked.
func filters(l Limits, device int) []filter {
	rest := filter{class: classRest, protocol: unix.ETH_P_ALL, device: device}
	if len(l.ShapedSubnets) > 0 {
		return subnetFilters(l.ShapedSubnets, device)
	}
	return append(subnetFilters(l.UnshapedSubnets, 0), rest)
}

func subnetFilters(subnets []netip.Prefix, device int) []filter {
	var all []filter
	for _, s := range subnets {
		f := filter{class: classIPv4, protocol: unix.ETH_P_IP, subnet: s, device: device}
		tagged := filter{class: classTaggedIPv4, protocol: unix.ETH_P_8021Q, subnet: s, device: device}
		if s.Addr().Is6() {
			f.class, f.protocol, tagged.class = classIPv6, unix.ETH_P_IPV6, classTaggedIPv6
		}
		all = append(all, f, tagged)
	}
	return all
}

// guess returns limits whose filters would be the given ones, if there are any.
func guess(found []filter) Limits {
	var subnets []netip.Prefix
	all := false
	for _, f := range found {
		if f.subnet.IsValid() {
			subnets = append(subnets, f.subnet)
		}
		all = all || f.class == classRest
	}
	subnets = linkspec.CanonicalSubnets(subnets)
	if all {
		return Limits{UnshapedSubnets: subnets}
	}
	return Limits{ShapedSubnets: subnets}
}

// sameFilters compares without regard to the order: a match means the same in any.
func sameFilters(a, b []filter) bool {
	return slices.Equal(sorted(a), sorted(b))
}

func sorted(all []filter) []filter {
	return slices.SortedFunc(slices.Values(all), func(a, b filter) int {
		if a.class != b.class {
			return int(a.class) - int(b.class)
		}
		if c := a.subnet.Compare(b.subnet); c != 0 {
			return c
		}
		return a.device - b.device
	})
}

// setFilters makes these the filters of ours at the hook.
func setFilters(port int, h tc.Hook, want []filter) error {
	found, err := listFilters(port, h)
	if err != nil || sameFilters(found, want) {
		return err
	}
	gone := map[class]bool{}
	for _, f := range found {
		if gone[f.class] {
			continue
		}
		if err := removeClass(port, h, f); err != nil {
			return err
		}
		gone[f.class] = true
	}
	if len(want) == 0 {
		return advise(tc.RemoveHooks(port))
	}
	if _, err := tc.AddHooks(port); err != nil {
		return advise(err)
	}
	for _, f := range want {
		if err := explain(netlink.FilterAdd(f.u32(port, h)), "add filter to link %d", port); err != nil {
			return err
		}
	}
	return nil
}

// removeClass removes all filters of the class of f.
func removeClass(port int, h tc.Hook, f filter) error {
	err := netlink.FilterDel(&netlink.GenericFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: port, Parent: uint32(h), Priority: priority(h, f.class), Protocol: f.protocol},
		FilterType:  "u32",
	})
	return explain(err, "remove filter of link %d", port)
}

// listFilters returns the filters at the hook that have our priorities.
func listFilters(port int, h tc.Hook) ([]filter, error) {
	all, err := tc.Filters(port, h)
	var ours []filter
	for _, f := range all {
		if c := class(f.Attrs().Priority - priority(h, 0)); c < classes {
			ours = append(ours, readFilter(f, h))
		}
	}
	return ours, advise(err)
}

// u32 is the filter as the kernel wants it.
func (f filter) u32(port int, h tc.Hook) *netlink.U32 {
	u := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: port, Parent: uint32(h), Priority: priority(h, f.class), Protocol: f.protocol},
		// Without an action, a match ends the search and the frame passes.
		Sel: &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: f.keys(h)},
	}
	if f.device != 0 {
		u.Actions = []netlink.Action{netlink.NewMirredAction(f.device)}
	}
	return u
}

// keys are the words of the frame to compare, with their masks and their places as
// seen from the IP header.
func (f filter) keys(h tc.Hook) []netlink.TcU32Key {
	var keys []netlink.TcU32Key
	if f.class.isTagged() {
		keys = append(keys, etherType(f.class))
	}
	offset := map[bool]map[tc.Hook]int32{
		true:  {tc.Ingress: 16, tc.Egress: 12}, // IPv4: destination, source
		false: {tc.Ingress: 24, tc.Egress: 8},  // IPv6
	}[f.subnet.Addr().Is4()][h]
	address := f.subnet.Addr().AsSlice()
	for left := f.subnet.Bits(); left > 0; left -= 32 {
		keys = append(keys, netlink.TcU32Key{
			Val:  binary.BigEndian.Uint32(address),
			Mask: ^uint32(0) << max(32-left, 0),
			Off:  offset,
		})
		address, offset = address[4:], offset+4
	}
	if len(keys) == 0 {
		keys = []netlink.TcU32Key{{}} // compares nothing
	}
	return slices.Clip(keys) // the library counts up to the capacity
}

// etherType compares what comes before the IP header: the kernel takes the tag out of
// the frame.
func etherType(c class) netlink.TcU32Key {
	k := netlink.TcU32Key{Val: unix.ETH_P_IP, Mask: 0xffff, Off: -4}
	if c == classTaggedIPv6 {
		k.Val = unix.ETH_P_IPV6
	}
	return k
}

// readFilter is the inverse of u32. What is not like ours gets device -1.
func readFilter(raw netlink.Filter, h tc.Hook) filter {
	f := filter{class: class(raw.Attrs().Priority - priority(h, 0)), protocol: raw.Attrs().Protocol, device: -1}
	u, ok := raw.(*netlink.U32)
	if !ok || u.Sel == nil || len(u.Actions) > 1 {
		return f
	}
	if size := f.class.size(); size > 0 {
		f.subnet = subnetOf(u.Sel.Keys[f.class.etherKeys(u.Sel.Keys):], size)
	}
	if u.Sel.Flags != netlink.TC_U32_TERMINAL || !slices.Equal(u.Sel.Keys, f.keys(h)) {
		return f
	}
	if len(u.Actions) == 0 {
		f.device = 0
		return f
	}
	if m, ok := u.Actions[0].(*netlink.MirredAction); ok && m.MirredAction == netlink.TCA_EGRESS_REDIR && m.Ifindex > 0 {
		f.device = m.Ifindex
	}
	return f
}

// etherKeys is how many keys come before those of the address.
func (c class) etherKeys(keys []netlink.TcU32Key) int {
	if c.isTagged() && len(keys) > 0 {
		return 1
	}
	return 0
}

// subnetOf returns the subnet of addresses of that many bytes which the keys
// compare with, provided that they are keys as we make them.
func subnetOf(keys []netlink.TcU32Key, size int) netip.Prefix {
	address := make([]byte, size)
	length := 0
	for i, k := range keys {
		if 4*i >= size {
			return netip.Prefix{}
		}
		binary.BigEndian.PutUint32(address[4*i:], k.Val)
		for mask := k.Mask; mask != 0; mask <<= 1 {
			length++
		}
	}
	a, _ := netip.AddrFromSlice(address)
	return netip.PrefixFrom(a, length)
}
