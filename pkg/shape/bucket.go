package shape

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// bucketHandle marks the queueing disciplines that are ours ("mv", for tc 6d76:).
const bucketHandle = 0x6d76 << 16

// setBucket makes the token bucket the root of the link, or changes it.
func setBucket(link int, b linkspec.Bucket) error {
	q, err := readQdisc(link, netlink.HANDLE_ROOT)
	if err != nil {
		return err
	}
	set := netlink.QdiscAdd
	switch {
	case q.handle == bucketHandle:
		if now, ok := q.bucket(); ok && now == b {
			return nil
		}
		set = netlink.QdiscChange
	case q.handle != 0: // the kernel's own defaults have none
		return cnierr.New(cnierr.Exists, fmt.Sprintf("remove it with `tc qdisc del` on the root of the device, or leave bandwidth out of the configuration: there can be only one (see `tc qdisc show`, interface index %d)", link),
			"link %d already has a queueing discipline %s of somebody else", link, q.kind)
	}
	err = set(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link, Handle: bucketHandle, Parent: netlink.HANDLE_ROOT},
		Rate:       b.Rate,
		Buffer:     b.Depth,
		Limit:      b.Queue,
	})
	return explain(err, "set token bucket of link %d", link)
}

// removeBucket takes our token bucket off the link, if it is there.
func removeBucket(link int) error {
	q, err := readQdisc(link, netlink.HANDLE_ROOT)
	if err != nil || q.handle != bucketHandle {
		return err
	}
	err = netlink.QdiscDel(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link, Handle: bucketHandle, Parent: netlink.HANDLE_ROOT},
	})
	return explain(err, "remove token bucket of link %d", link)
}

// observeBucket returns the limit that our token bucket on the link sets.
func observeBucket(link int) (Limit, error) {
	q, err := readQdisc(link, netlink.HANDLE_ROOT)
	if err != nil {
		return Limit{}, err
	}
	b, ok := q.bucket()
	if !ok {
		return Limit{}, nil
	}
	return b.Limit(), nil
}

// qdisc is a queueing discipline; the zero value is none, or one that the
// kernel does not show.
type qdisc struct {
	kind    string
	handle  uint32
	options []byte
	stretch bool // frames count for more or less than their length (tc stab)
}

// readQdisc asks for the one queueing discipline at that place of the link. The
// library can only list those of all links of the host.
func readQdisc(link int, parent uint32) (qdisc, error) {
	// The kernel tells the asker only with ECHO. Where there is nothing to show it
	// sends no answer, or an error: hence the acknowledgement to wait for.
	request := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_ACK|unix.NLM_F_ECHO)
	request.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(link), Parent: parent})
	replies, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return qdisc{}, nil // there is none, or one without any state
	}
	if err != nil {
		return qdisc{}, explain(err, "read queueing discipline of link %d", link)
	}
	if len(replies) == 0 {
		return qdisc{}, nil
	}
	if len(replies[0]) < nl.SizeofTcMsg {
		return qdisc{}, fmt.Errorf("read queueing discipline of link %d: answer cut short", link)
	}
	attributes, err := nl.ParseRouteAttr(replies[0][nl.SizeofTcMsg:])
	if err != nil {
		return qdisc{}, fmt.Errorf("read queueing discipline of link %d: %w", link, err)
	}
	q := qdisc{handle: nl.DeserializeTcMsg(replies[0]).Handle}
	for _, a := range attributes {
		switch a.Attr.Type {
		case nl.TCA_KIND:
			q.kind = unix.ByteSliceToString(a.Value)
		case nl.TCA_OPTIONS:
			q.options = a.Value
		case nl.TCA_STAB:
			q.stretch = true
		}
	}
	return q, nil
}

// bucket reads a token bucket of ours, and reports whether it is one.
func (q qdisc) bucket() (linkspec.Bucket, bool) {
	if q.kind != "tbf" || q.handle != bucketHandle || q.stretch {
		return linkspec.Bucket{}, false
	}
	attributes, err := nl.ParseRouteAttr(q.options)
	if err != nil {
		return linkspec.Bucket{}, false
	}
	var b linkspec.Bucket
	for _, a := range attributes {
		switch {
		case a.Attr.Type == nl.TCA_TBF_PARMS && len(a.Value) >= nl.SizeofTcTbfQopt:
			o := nl.DeserializeTcTbfQopt(a.Value)
			if o.Peakrate.Rate != 0 || o.Rate.Overhead != 0 || o.Rate.Mpu != 0 {
				return linkspec.Bucket{}, false
			}
			b.Depth, b.Queue = o.Buffer, o.Limit
			b.Rate = max(b.Rate, uint64(o.Rate.Rate)) // the largest number stands for "see below"
		case a.Attr.Type == nl.TCA_TBF_RATE64 && len(a.Value) >= 8:
			b.Rate = binary.NativeEndian.Uint64(a.Value)
		}
	}
	return b, b.Rate > 0
}

// explain wraps what the kernel said, and says what to do where that is known.
func explain(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf(format+": %w", append(a, err)...)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return cnierr.New(cnierr.Kernel, "limits need these modules of the kernel: modprobe -a sch_tbf sch_ingress cls_u32 act_mirred ifb", "%w", err)
	}
	return err
}
