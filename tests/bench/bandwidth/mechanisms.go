//go:build linux

package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/shape"
)

// mechanism is a way to limit one direction.
type mechanism struct {
	name      string
	fromGuest bool
	// install limits the port. A device it needs is an ifb device, which is up.
	install func(port, device int, l shape.Limit) error
}

// The mechanisms that are compared. Those named shape are what pkg/shape does.
var mechanisms = []mechanism{
	{"none", false, func(int, int, shape.Limit) error { return nil }},
	{"shape: tbf", false, func(port, _ int, l shape.Limit) error {
		return shape.Apply(shape.Port{Index: port}, shape.Limits{ToGuest: l})
	}},
	{"htb", false, func(port, _ int, l shape.Limit) error { return addHTB(port, l) }},
	{"none", true, func(int, int, shape.Limit) error { return nil }},
	{"shape: ifb, tbf", true, func(port, device int, l shape.Limit) error {
		return shape.Apply(shape.Port{Index: port, FromGuest: device}, shape.Limits{FromGuest: l})
	}},
	{"ifb, htb", true, func(port, device int, l shape.Limit) error {
		return errors.Join(addHTB(device, l), addClsact(port), netlink.FilterAdd(&netlink.U32{
			FilterAttrs: atIngress(port),
			Actions:     []netlink.Action{netlink.NewMirredAction(device)},
		}))
	}},
	{"police", true, addPolicer},
}

// addHTB does with htb what pkg/shape does with tbf.
func addHTB(link int, l shape.Limit) error {
	q := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: link, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT})
	q.Defcls = 1
	if err := netlink.QdiscAdd(q); err != nil {
		return fmt.Errorf("add htb: %w", err)
	}
	depth := uint32(l.Burst * 15_625_000 / l.Rate) // ticks of 64 ns
	err := netlink.ClassAdd(&netlink.HtbClass{
		ClassAttrs: netlink.ClassAttrs{LinkIndex: link, Handle: netlink.MakeHandle(1, 1), Parent: q.Handle},
		Rate:       l.Rate / 8, Ceil: l.Rate / 8, Buffer: depth, Cbuffer: depth, Quantum: 60000,
	})
	if err != nil {
		return fmt.Errorf("add class: %w", err)
	}
	request := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(&nl.TcMsg{Ifindex: int32(link), Handle: netlink.MakeHandle(2, 0), Parent: netlink.MakeHandle(1, 1)})
	request.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("bfifo")))
	request.AddData(nl.NewRtAttr(nl.TCA_OPTIONS, nl.Uint32Attr(uint32(l.Queue/8))))
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("add queue: %w", err)
	}
	return nil
}

// addPolicer drops what is over the rate, as act_police does. That action is not
// in every kernel; BPF is.
func addPolicer(port, _ int, l shape.Limit) error {
	fd, err := loadPolicer(l)
	if err != nil {
		return err
	}
	return errors.Join(addClsact(port), netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: atIngress(port), Fd: fd, Name: "policer", DirectAction: true,
	}), unix.Close(fd))
}

func addClsact(port int) error {
	return netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: port, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
}

func atIngress(port int) netlink.FilterAttrs {
	return netlink.FilterAttrs{LinkIndex: port, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL}
}

// strip takes everything off the port that any mechanism put there.
func strip(port int) error {
	var errs []error
	for _, q := range []netlink.QdiscAttrs{
		{LinkIndex: port, Parent: netlink.HANDLE_ROOT},
		{LinkIndex: port, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)},
	} {
		err := netlink.QdiscDel(&netlink.GenericQdisc{QdiscAttrs: q})
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) { // nothing there
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
