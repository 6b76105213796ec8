package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Numbers of include/uapi/linux/if_bridge.h that x/sys does not have.
const (
	vlanEntry      = 1 // BRIDGE_VLANDB_ENTRY
	vlanEntryInfo  = 1 // BRIDGE_VLANDB_ENTRY_INFO
	vlanEntryRange = 2 // BRIDGE_VLANDB_ENTRY_RANGE

	vlanPVID     = 1 << 1 // BRIDGE_VLAN_INFO_PVID
	vlanUntagged = 1 << 2 // BRIDGE_VLAN_INFO_UNTAGGED

	sizeofVLANMsg = 8 // struct br_vlan_msg
)

// CanFilter asks for a bridge with a VLAN protocol that does not exist, in a network
// namespace that does not exist: no bridge is made either way. A kernel that filters
// VLANs refuses the protocol, another one the namespace. The kernel loads the bridge
// module, as it would for a real one.
func (k *Kernel) CanFilter() error {
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...).
		u32(unix.IFLA_NET_NS_FD, ^uint32(0))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, string(linkspec.Bridge))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.attr(unix.IFLA_BR_VLAN_PROTOCOL, []byte{0, 0})
		})
	})
	err := k.conn.do(m)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return nil
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.EOPNOTSUPP):
		return cannotFilter()
	}
	return fmt.Errorf("ask the kernel for VLAN filtering: %w", err)
}

func cannotFilter() error {
	return cnierr.New(cnierr.Kernel,
		"use a kernel with CONFIG_BRIDGE_VLAN_FILTERING, which those of the distributions have, or remove vlan and vlanTrunk and give each network a bridge of its own",
		"this kernel's bridges cannot tell VLANs apart (CONFIG_BRIDGE_VLAN_FILTERING is off): %w", errors.ErrUnsupported)
}

// readBridge reads of a bridge what is about VLANs. A kernel without them says
// that it does not filter, but no default VLAN.
func (r *record) readBridge(data []byte) {
	pvid := lookup(data, unix.IFLA_BR_VLAN_DEFAULT_PVID)
	if len(pvid) < 2 {
		return
	}
	r.link.DefaultPVID = int(native.Uint16(pvid))
	r.link.VLANFiltering = new(flagOf(lookup(data, unix.IFLA_BR_VLAN_FILTERING)))
}

func (r *record) readVLANDevice(data []byte) {
	if id := lookup(data, unix.IFLA_VLAN_ID); len(id) >= 2 {
		r.link.VLANID = new(int(native.Uint16(id)))
	}
}

// filters tells whether the record is of a bridge that filters VLANs.
func (r *record) filters() bool { return r.link.VLANFiltering != nil && *r.link.VLANFiltering }

// addParent fills in what a VLAN device has to do with the device below.
func (k *Kernel) addParent(l *linkspec.Link, index int) error {
	parent, err := k.recordOf(index)
	if err != nil {
		return err
	}
	l.Parent, l.Carried = &parent.link.Name, new(false)
	if !parent.filters() || l.VLANID == nil {
		return nil
	}
	vlans, err := k.vlans(index)
	if v, in := linkspec.FindVLAN(vlans, *l.VLANID); in {
		l.Carried = new(!v.Untagged)
	}
	return err
}

// vlanMessage begins a request about the VLANs of a port or bridge.
func vlanMessage(typ uint16, index int) *message {
	body := native.AppendUint32([]byte{unix.AF_BRIDGE, 0, 0, 0}, uint32(index))
	return newMessage(typ, 0, body...)
}

// vlans are the VLANs that a port, or a bridge itself, is in; none where it is
// neither any more.
func (k *Kernel) vlans(index int) ([]linkspec.VLAN, error) {
	payloads, err := k.conn.dump(vlanMessage(unix.RTM_GETVLAN, index), unix.RTM_NEWVLAN)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list its VLANs: %w", err)
	}
	var vlans []linkspec.VLAN
	for _, p := range payloads {
		if len(p) < sizeofVLANMsg {
			continue
		}
		for typ, entry := range attrs(p[sizeofVLANMsg:]) {
			if typ == vlanEntry {
				vlans = append(vlans, decodeVLANs(entry)...)
			}
		}
	}
	slices.SortFunc(vlans, func(a, b linkspec.VLAN) int { return cmp.Compare(a.ID, b.ID) })
	return vlans, nil
}

// decodeVLANs reads one entry: a struct bridge_vlan_info, and the last VLAN of a
// range that begins there.
func decodeVLANs(entry []byte) []linkspec.VLAN {
	info := lookup(entry, vlanEntryInfo)
	if len(info) < 4 {
		return nil
	}
	flags, first := native.Uint16(info), int(native.Uint16(info[2:]))
	last := first
	if r := lookup(entry, vlanEntryRange); len(r) >= 2 {
		last = int(native.Uint16(r))
	}
	var vlans []linkspec.VLAN
	for id := first; id <= last; id++ {
		vlans = append(vlans, linkspec.VLAN{ID: id, PVID: flags&vlanPVID != 0, Untagged: flags&vlanUntagged != 0})
	}
	return vlans
}

// changeVLANs adds to, or takes from, the VLANs of a port or bridge, neighbours
// of one kind as one entry.
func (k *Kernel) changeVLANs(typ uint16, index int, vlans []linkspec.VLAN) error {
	if len(vlans) == 0 {
		return nil
	}
	m := vlanMessage(typ, index)
	for i := 0; i < len(vlans); {
		first, last := vlans[i], vlans[i]
		for i++; i < len(vlans) && !first.PVID && vlans[i] == (linkspec.VLAN{ID: last.ID + 1, Untagged: first.Untagged}); i++ {
			last = vlans[i]
		}
		m.nest(vlanEntry, func() {
			info := native.AppendUint16(nil, uint16(bit(first.PVID))*vlanPVID|uint16(bit(first.Untagged))*vlanUntagged)
			m.attr(vlanEntryInfo, native.AppendUint16(info, uint16(first.ID)))
			if last != first {
				m.attr(vlanEntryRange, native.AppendUint16(nil, uint16(last.ID)))
			}
		})
	}
	return k.conn.do(m)
}

// setVLANs makes the VLANs of a port those of change. The port is not up yet.
func (k *Kernel) setVLANs(l, change linkspec.Link) error {
	if change.VLANs == nil {
		return nil
	}
	want := slices.SortedFunc(slices.Values(change.VLANs), func(a, b linkspec.VLAN) int { return cmp.Compare(a.ID, b.ID) })
	have, err := k.vlans(l.Index)
	if err != nil {
		return err
	}
	var drop, add []linkspec.VLAN
	for _, v := range have {
		if _, stays := linkspec.FindVLAN(want, v.ID); !stays {
			drop = append(drop, v)
		}
	}
	for _, v := range want {
		if !slices.Contains(have, v) {
			add = append(add, v)
		}
	}
	err = k.changeVLANs(unix.RTM_DELVLAN, l.Index, drop)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("take it out of VLANs: %w", err)
	}
	return wrap("put it into VLANs", k.changeVLANs(unix.RTM_NEWVLAN, l.Index, add))
}

// setInVLANs puts a port into VLANs, beside those that it is in.
func (k *Kernel) setInVLANs(l, change linkspec.Link) error {
	if len(change.InVLANs) == 0 {
		return nil
	}
	have, err := k.vlans(l.Index)
	if err != nil {
		return err
	}
	var add []linkspec.VLAN
	for _, id := range slices.Compact(slices.Sorted(slices.Values(change.InVLANs))) {
		if _, in := linkspec.FindVLAN(have, id); !in {
			add = append(add, linkspec.VLAN{ID: id})
		}
	}
	return wrap("put it into VLANs", k.changeVLANs(unix.RTM_NEWVLAN, l.Index, add))
}

// setFiltering makes a bridge tell VLANs apart, or stop to.
func (k *Kernel) setFiltering(l, change linkspec.Link) error {
	if change.VLANFiltering == nil {
		return nil
	}
	m := newMessage(unix.RTM_NEWLINK, 0, ifinfo(unix.AF_UNSPEC, l.Index, 0, 0)...)
	bridgeInfo(m, change.VLANFiltering)
	err := k.conn.do(m)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return cannotFilter()
	}
	return wrap("set VLAN filtering", err)
}

// bridgeInfo adds what is particular to a bridge.
func bridgeInfo(m *message, filtering *bool) {
	m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, string(linkspec.Bridge))
		if filtering != nil {
			m.nest(unix.IFLA_INFO_DATA, func() { m.attr(unix.IFLA_BR_VLAN_FILTERING, []byte{bit(*filtering)}) })
		}
	})
}

// setCarried puts the bridge below a VLAN device into its VLAN, or takes it out.
// A bridge that is in it without tags is somebody's choice, and stays.
func (k *Kernel) setCarried(l, change linkspec.Link) error {
	if change.Carried == nil {
		return nil
	}
	if l.Parent == nil || l.VLANID == nil {
		return errors.New("set VLAN of the bridge below: not a VLAN device")
	}
	index, err := k.indexOf(*l.Parent)
	if err != nil {
		return err
	}
	vlans, err := k.vlans(index)
	if err != nil {
		return err
	}
	v, in := linkspec.FindVLAN(vlans, *l.VLANID)
	switch {
	case in && v.Untagged && *change.Carried:
		return cnierr.New(cnierr.Config, "take it out (bridge vlan del vid N dev "+*l.Parent+" self), or choose another VLAN",
			"bridge %s itself is in VLAN %d without tags", *l.Parent, v.ID)
	case in == *change.Carried, in && v.Untagged:
		return nil
	case in:
		return wrap("take bridge out of VLAN", k.changeVLANs(unix.RTM_DELVLAN, index, []linkspec.VLAN{v}))
	}
	return wrap("put bridge into VLAN", k.changeVLANs(unix.RTM_NEWVLAN, index, []linkspec.VLAN{{ID: *l.VLANID}}))
}

// createVLANDevice makes a VLAN device, down.
func (k *Kernel) createVLANDevice(l linkspec.Link) (linkspec.Draft, error) {
	if l.Parent == nil || l.VLANID == nil {
		return nil, fmt.Errorf("make VLAN device %s: no device below, or no VLAN", l.Name)
	}
	below, err := k.indexOf(*l.Parent)
	if err != nil {
		return nil, fmt.Errorf("make VLAN device %s: %w", l.Name, err)
	}
	group := randomGroup()
	m := newTagged(l.Name, group).u32(unix.IFLA_LINK, uint32(below))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, string(linkspec.VLANDevice))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.attr(unix.IFLA_VLAN_ID, native.AppendUint16(nil, uint16(*l.VLANID)))
		})
	})
	d, err := k.createTagged(l, group, m)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, cnierr.New(cnierr.Kernel, "load the module (modprobe 8021q), or build the kernel with CONFIG_VLAN_8021Q",
			"the kernel has no VLAN devices: %w", err)
	case errors.Is(err, unix.EEXIST):
		return nil, cnierr.New(cnierr.Exists,
			fmt.Sprintf("find it (ip -d link show type vlan) and remove it, or use it as the gateway yourself, without isGateway; or choose another VLAN than %d", *l.VLANID),
			"%s is taken, or another device has VLAN %d of %s: %w", l.Name, *l.VLANID, *l.Parent, err)
	}
	return d, err
}
