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

// setClsact gives the device the hooks, if it does not have them yet.
func (f Filter) setClsact() error {
	err := netlink.QdiscAdd(f.clsact())
	if !errors.Is(err, unix.EEXIST) {
		return explain(err, "add clsact to link %d", f.Link)
	}
	kind, err := f.qdisc()
	if err != nil || kind == "clsact" {
		return err
	}
	return cnierr.New(cnierr.Exists, "whoever filters there should use clsact, which can be shared",
		"link %d already has a queueing discipline %s, which keeps clsact from it", f.Link, kind)
}

// qdisc returns the kind of the queueing discipline in the place of clsact, or
// nothing. The library can only list those of all devices.
func (f Filter) qdisc() (string, error) {
	// The kernel tells the asker only with ECHO.
	request := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_ACK|unix.NLM_F_ECHO)
	request.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(f.Link), Parent: netlink.HANDLE_CLSACT})
	replies, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil || len(replies) == 0 {
		return "", explain(err, "read clsact of link %d", f.Link)
	}
	attributes, err := nl.ParseRouteAttr(replies[0][nl.SizeofTcMsg:])
	if err != nil {
		return "", explain(err, "read clsact of link %d", f.Link)
	}
	for _, a := range attributes {
		if a.Attr.Type == nl.TCA_KIND {
			return unix.ByteSliceToString(a.Value), nil
		}
	}
	return "", nil
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
