// Package tcbpf attaches BPF programs to the clsact hooks of a device, as
// direct-action cls_bpf filters over netlink, or by bpf(2) at tcx, which comes
// before all filters, where a program asks for that and Linux has it (6.6). It
// needs nothing that Linux 5.10 does not have. What is attached lives and dies with
// the device, and nobody has to stay alive for it; a program may be pinned to be found
// by those who come later.
//
// A hook may be shared: with those of the guard and the splice, with pkg/shape,
// whose filters have priorities from 50000, and with strangers. Programs at tcx run
// in the order in which they came, filters in that of their priorities, until one
// returns something else than TC_ACT_UNSPEC. What is not ours is neither replaced
// nor removed.
//
// All functions act on the network namespace of the calling thread.
package tcbpf

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
)

// Filter is a place for one program. It is ours if its name is: no two users of
// a priority have the same.
type Filter struct {
	Link     int // interface index
	Hook     tc.Hook
	Priority uint16 // the lowest comes first
	Name     string // as `tc filter show` prints it; at most 255 bytes

	// Program is the kernel's name of the programs that belong there, of at most 15
	// letters and of no others, for a place at tcx rather than among the filters.
	// Where the kernel has no tcx, and if it is "", it is a filter.
	Program string
}

// Program is what was found attached. The zero value is none.
type Program struct {
	ID  uint32 // the kernel's, for `bpftool prog show id`
	Tag string // hash of its instructions: see Object.HasTag

	// Before names what somebody else has at the hook with a lower priority, or at
	// tcx, and that may accept, drop or redirect frames that the program then never
	// sees.
	Before string

	// Instead is what has the place where the program is none of ours, for a person.
	Instead string
}

// Loaded is a program in the kernel: a FD, or a program of package ebpf.
type Loaded interface{ FD() int }

// handle is that of our filter among those of its priority.
const handle = 1

// Attach makes p the program of the filter. A program that is already there is
// replaced with no frame in between that sees none or both. A filter of somebody
// else at that priority is a cnierr.Exists error, and stays.
func (f Filter) Attach(p Loaded) error {
	if f.Program != "" {
		if err := f.attachTCX(p); !errors.Is(err, errNoTCX) {
			runtime.KeepAlive(p)
			return err
		}
	}
	fresh, err := tc.AddHooks(f.Link)
	if err != nil {
		return advise(err)
	}
	var there *netlink.BpfFilter
	if !fresh { // on hooks that were not there a moment ago there is nothing
		if there, _, err = f.find(); err != nil {
			return err
		}
	}
	if there == nil {
		err = f.add(p)
	} else {
		err = netlink.FilterReplace(f.raw(p))
	}
	runtime.KeepAlive(p)
	return explain(err, "attach program %s to the %s of link %d", f.Name, f.Hook, f.Link)
}

// add attaches where there was none. Whoever else came meanwhile is respected.
func (f Filter) add(p Loaded) error {
	err := netlink.FilterAdd(f.raw(p))
	if errors.Is(err, unix.EEXIST) {
		return f.taken("somebody else, who just came")
	}
	return err
}

// Observe returns the program of the filter; without an ID if there is none. A
// filter of somebody else at the priority, or one that is not direct-action, is as
// good as none.
func (f Filter) Observe() (Program, error) {
	if f.Program != "" {
		fd, p, err := f.findTCX()
		if !errors.Is(err, errNoTCX) {
			return p, errors.Join(err, fd.Close())
		}
	}
	there, before, err := f.find()
	if errors.Is(err, errTaken) {
		return Program{Instead: "somebody else's filter has its preference"}, nil
	}
	if err != nil {
		return Program{}, err
	}
	ids, err := f.queryTCX()
	if err != nil && !errors.Is(err, errNoTCX) {
		return Program{}, err
	}
	if len(ids) > 0 {
		before = beforeTCX(ids[0])
	}
	if there == nil {
		return Program{Before: before}, nil
	}
	if !there.DirectAction {
		return Program{Before: before, Instead: "its filter is there, but not direct-action"}, nil
	}
	return Program{ID: uint32(there.Id), Tag: there.Tag, Before: before}, nil
}

// Detach removes the filter, and clsact from the device when nobody else filters
// there. That it is not there is no error, nor is a device that is gone.
func (f Filter) Detach() error {
	if f.Program != "" {
		if err := f.detachTCX(); !errors.Is(err, errNoTCX) {
			return err
		}
	}
	there, _, err := f.find()
	if errors.Is(err, errTaken) {
		return nil
	}
	if err != nil || there == nil {
		return err
	}
	gone := f.raw(nil)
	if err := netlink.FilterDel(gone); err != nil && !errors.Is(err, unix.ENOENT) {
		return explain(err, "detach program %s from the %s of link %d", f.Name, f.Hook, f.Link)
	}
	return advise(tc.RemoveHooks(f.Link))
}

// raw is the filter as the kernel wants it.
func (f Filter) raw(p Loaded) *netlink.BpfFilter {
	fd := -1
	if p != nil {
		fd = p.FD()
	}
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: f.Link, Parent: uint32(f.Hook), Handle: handle, Protocol: unix.ETH_P_ALL, Priority: f.Priority,
		},
		Fd: fd, Name: f.Name, DirectAction: true,
	}
}

// errTaken says that the priority belongs to somebody else.
var errTaken = errors.New("priority is taken")

// find returns our filter, or nil, and the first one that comes before it. It
// returns errTaken if anybody else's filter has the priority.
func (f Filter) find() (ours *netlink.BpfFilter, before string, err error) {
	all, err := tc.Filters(f.Link, f.Hook)
	if err != nil {
		return nil, "", advise(err)
	}
	for _, raw := range all {
		a := raw.Attrs()
		if before == "" && a.Priority < f.Priority && (a.Chain == nil || *a.Chain == 0) {
			before = fmt.Sprintf("filter %s at preference %d", raw.Type(), a.Priority)
		}
		if a.Priority != f.Priority || a.Chain != nil && *a.Chain != 0 {
			continue
		}
		b, ok := raw.(*netlink.BpfFilter)
		if !ok || b.Name != f.Name || a.Handle != handle || a.Protocol != unix.ETH_P_ALL {
			return nil, "", f.taken("a filter " + raw.Type() + " of somebody else")
		}
		ours = b
	}
	return ours, before, nil
}

func (f Filter) taken(by string) error {
	return cnierr.New(cnierr.Exists, fmt.Sprintf("look at it with `tc filter show dev DEVICE %s` and give it another preference: this one is needed for %s", f.Hook, f.Name),
		"%w: preference %d at the %s of link %d by %s", errTaken, f.Priority, f.Hook, f.Link, by)
}

// explain wraps what the kernel said, and says what to do where that is known.
func explain(err error, format string, a ...any) error {
	if err == nil || errors.As(err, new(*cnierr.Error)) {
		return err
	}
	return advise(fmt.Errorf(format+": %w", append(a, err)...))
}

// advise says what to do about an error of the kernel, where that is known.
func advise(err error) error {
	const modules = "BPF filters need these modules of the kernel: modprobe -a sch_ingress cls_bpf"
	switch {
	case errors.Is(err, unix.ENOENT):
		return cnierr.New(cnierr.Kernel, modules, "%w", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return cnierr.New(cnierr.Kernel, modules+"; and no block that clsact shares with other devices (ingress_block in `tc qdisc show`): tc qdisc del dev DEVICE clsact", "%w", err)
	}
	return err
}
