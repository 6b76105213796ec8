// Package tc is what the users of the kernel's traffic control have in common: the
// hooks of a link (clsact), whose filters they share with each other and with
// strangers, and a look at one queueing discipline.
//
// All functions act on the network namespace of the calling thread. Links are
// interface indexes. Errors are the kernel's, but for those named.
package tc

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Hook is the place in a device where filters see its frames.
type Hook uint32

// The hooks. Ingress comes before a bridge takes the frame from its port.
const (
	Ingress Hook = netlink.HANDLE_MIN_INGRESS
	Egress  Hook = netlink.HANDLE_MIN_EGRESS
)

func (h Hook) String() string {
	if h == Egress {
		return "egress"
	}
	return "ingress"
}

// AddHooks gives the link the hooks, if it does not have them yet, and tells whether
// it did. A queueing discipline that keeps them from it is a cnierr.Exists error.
func AddHooks(link int) (fresh bool, err error) {
	err = netlink.QdiscAdd(clsact(link))
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("add clsact to link %d: %w", link, err)
	}
	q, err := Read(link, netlink.HANDLE_CLSACT)
	if err != nil || q.Kind == "clsact" {
		return false, err
	}
	return false, cnierr.New(cnierr.Exists, "whoever filters there should use clsact, which can be shared; without guard and bandwidth limits it may stay",
		"link %d already has a queueing discipline %s, which keeps clsact from it", link, q.Kind)
}

// RemoveHooks takes the hooks off the link, if nobody filters there.
func RemoveHooks(link int) error {
	for _, h := range []Hook{Ingress, Egress} {
		others, err := Filters(link, h)
		if err != nil || len(others) > 0 {
			return err
		}
	}
	err := netlink.QdiscDel(clsact(link))
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // somebody else removed it
		return nil
	}
	return fmt.Errorf("remove clsact from link %d: %w", link, err)
}

func clsact(link int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// listAttempts bounds how often an interrupted list is made again. It is one of
// the filters of a single hook, so it is hardly ever interrupted.
const listAttempts = 50

// Filters returns everybody's filters at the hook. If it cannot be had whole, that is
// a cnierr.TryAgain error.
func Filters(link int, h Hook) ([]netlink.Filter, error) {
	all, err := uninterrupted(func() ([]netlink.Filter, error) {
		return netlink.FilterList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: link}}, uint32(h)) //nolint:forbidigo // uninterrupted retries
	})
	if err != nil {
		return nil, fmt.Errorf("list filters at the %s of link %d: %w", h, link, err)
	}
	return all, nil
}

// uninterrupted calls list until it returns a whole list.
func uninterrupted(list func() ([]netlink.Filter, error)) ([]netlink.Filter, error) {
	for range listAttempts {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, cnierr.New(cnierr.TryAgain, "somebody changes the filters of the device all the time: find out who",
		"they changed while they were listed, each of %d times", listAttempts)
}

// Qdisc is a queueing discipline. The zero value is none, or one that the kernel
// does not show.
type Qdisc struct {
	Kind    string
	Handle  uint32 // 0 is one that the kernel chose
	Options []byte // as netlink has them
	Stretch bool   // frames count for more or less than their length (tc stab)
}

// Read asks for the one at that place of the link. The library can only list those
// of all links of the host.
func Read(link int, parent uint32) (Qdisc, error) {
	q, err := read(link, parent)
	if err != nil {
		return Qdisc{}, fmt.Errorf("read queueing discipline of link %d: %w", link, err)
	}
	return q, nil
}

var errShort = errors.New("answer cut short")

func read(link int, parent uint32) (q Qdisc, err error) {
	// The kernel tells the asker only with ECHO. Where there is nothing to show it
	// sends no answer, or an error: hence the acknowledgement to wait for.
	request := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_ACK|unix.NLM_F_ECHO)
	request.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(link), Parent: parent})
	replies, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return q, nil // there is none, or one without any state
	}
	if err != nil || len(replies) == 0 {
		return q, err
	}
	if len(replies[0]) < nl.SizeofTcMsg {
		return q, errShort
	}
	attributes, err := nl.ParseRouteAttr(replies[0][nl.SizeofTcMsg:])
	if err != nil {
		return q, err
	}
	q.Handle = nl.DeserializeTcMsg(replies[0]).Handle
	for _, a := range attributes {
		switch a.Attr.Type {
		case nl.TCA_KIND:
			q.Kind = unix.ByteSliceToString(a.Value)
		case nl.TCA_OPTIONS:
			q.Options = a.Value
		case nl.TCA_STAB:
			q.Stretch = true
		}
	}
	return q, nil
}
