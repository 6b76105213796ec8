package shape

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// bucketHandle marks the queueing disciplines that are ours ("mv", for tc 6d76:).
const bucketHandle = 0x6d76 << 16

// setBucket makes the token bucket the root of the link, or changes it.
func setBucket(link int, b linkspec.Bucket) error {
	q, err := tc.Read(link, netlink.HANDLE_ROOT)
	if err != nil {
		return err
	}
	set := netlink.QdiscAdd
	switch {
	case q.Handle == bucketHandle:
		if now, ok := bucketOf(q); ok && now == b {
			return nil
		}
		set = netlink.QdiscChange
	case q.Handle != 0: // the kernel's own defaults have none
		return cnierr.New(cnierr.Exists, fmt.Sprintf("remove it with `tc qdisc del` on the root of the device, or leave bandwidth out of the configuration: there can be only one (see `tc qdisc show`, interface index %d)", link),
			"link %d already has a queueing discipline %s of somebody else", link, q.Kind)
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
	q, err := tc.Read(link, netlink.HANDLE_ROOT)
	if err != nil || q.Handle != bucketHandle {
		return err
	}
	err = netlink.QdiscDel(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link, Handle: bucketHandle, Parent: netlink.HANDLE_ROOT},
	})
	return explain(err, "remove token bucket of link %d", link)
}

// observeBucket returns the limit that our token bucket on the link sets.
func observeBucket(link int) (Limit, error) {
	q, err := tc.Read(link, netlink.HANDLE_ROOT)
	if err != nil {
		return Limit{}, err
	}
	b, ok := bucketOf(q)
	if !ok {
		return Limit{}, nil
	}
	return b.Limit(), nil
}

// bucketOf reads a token bucket of ours, and reports whether it is one.
func bucketOf(q tc.Qdisc) (linkspec.Bucket, bool) {
	if q.Kind != "tbf" || q.Handle != bucketHandle || q.Stretch {
		return linkspec.Bucket{}, false
	}
	attributes, err := nl.ParseRouteAttr(q.Options)
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
	return advise(fmt.Errorf(format+": %w", append(a, err)...))
}

// advise says what to do about an error of the kernel, where that is known.
func advise(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return cnierr.New(cnierr.Kernel, "limits need these modules of the kernel: modprobe -a sch_tbf sch_ingress cls_u32 act_mirred ifb", "%w", err)
	}
	return err
}
