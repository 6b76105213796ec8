package tcbpf

import (
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

func (f Filter) clsact() *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: f.Link, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// setClsact gives the device the hooks, if it does not have them yet, and tells
// whether it did.
func (f Filter) setClsact() (fresh bool, err error) {
	err = netlink.QdiscAdd(f.clsact())
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, explain(err, "add clsact to link %d", f.Link)
	}
	q, err := ReadQdisc(f.Link, netlink.HANDLE_CLSACT)
	if err != nil || q.Kind == "clsact" {
		return false, err
	}
	return false, cnierr.New(cnierr.Exists, "whoever filters there should use clsact, which can be shared",
		"link %d already has a queueing discipline %s, which keeps clsact from it", f.Link, q.Kind)
}

// Qdisc is a queueing discipline. The zero value is none, or one that the kernel
// does not show.
type Qdisc struct {
	Kind   string
	Handle uint32 // 0 is one that the kernel chose
}

// ReadQdisc asks for the one at that place of the link. The library can only list
// those of all links.
func ReadQdisc(link int, parent uint32) (Qdisc, error) {
	// The kernel tells the asker only with ECHO.
	request := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_ACK|unix.NLM_F_ECHO)
	request.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(link), Parent: parent})
	replies, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return Qdisc{}, nil
	}
	if err != nil || len(replies) == 0 || len(replies[0]) < nl.SizeofTcMsg {
		return Qdisc{}, explain(err, "read queueing discipline of link %d", link)
	}
	attributes, err := nl.ParseRouteAttr(replies[0][nl.SizeofTcMsg:])
	if err != nil {
		return Qdisc{}, explain(err, "read queueing discipline of link %d", link)
	}
	q := Qdisc{Handle: nl.DeserializeTcMsg(replies[0]).Handle}
	for _, a := range attributes {
		if a.Attr.Type == nl.TCA_KIND {
			q.Kind = unix.ByteSliceToString(a.Value)
		}
	}
	return q, nil
}

// removeClsact takes the hooks off the device, if nobody filters there.
func (f Filter) removeClsact() error {
	for _, h := range []Hook{Ingress, Egress} {
		others, err := f.list(h)
		if err != nil || len(others) > 0 {
			return err
		}
	}
	err := netlink.QdiscDel(f.clsact())
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil // somebody else removed it
	}
	return explain(err, "remove clsact from link %d", f.Link)
}
