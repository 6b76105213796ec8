package splice

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// A shortcut takes frames to the guest from the port to the tap at once, instead
// of through the veth pair, where each waits for a turn of the softirq:
//
//	host ns:  port egress -> bpf_redirect(upper) -> tap -> the VMM's read
//
// The upper device is a macvlan of the tap that lies in the host's namespace: to
// transmit is all that it can do, and it ends with the tap. A splice works with
// and without, and a frame for which the shortcut is not in place takes the pair.
//
// It leaves the queueing discipline of the port aside, hence a limit of
// pkg/shape for frames to the guest as well, unless that is for some subnets
// only. Such a limit belongs on the upper device, or the shortcut is left out.

// ShortcutPriority is that of the filter at the egress of the port: after those
// of pkg/shape, whose frames come back from their ifb device and take the pair.
const ShortcutPriority = 60000

// CreateUpper makes an upper device for the tap, which is in the namespace of the
// calling thread, in the one that hostNetns is an open file of. It is down, and
// has to be up for a shortcut; nobody should speak IPv6 on it. A name that is
// taken there is fs.ErrExist.
func CreateUpper(name string, tap, hostNetns int) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.ParentIndex, attributes.Namespace = name, tap, netlink.NsFd(hostNetns)
	// A device for the frames of listed senders receives none when none is listed.
	// Any other mode would let frames of the guest past the bridge into the host.
	upper := &netlink.Macvlan{LinkAttrs: attributes, Mode: netlink.MACVLAN_MODE_SOURCE}
	if err := netlink.LinkAdd(upper); err != nil {
		return fmt.Errorf("create macvlan %s of link %d: %w", name, tap, err)
	}
	return nil
}

// Unqueue takes the kernel's default queueing discipline off the tap, which is in
// the namespace of the calling thread. A tap never tells anybody to wait, so that
// nothing is ever queued there; it only costs each frame a lock or two. A queueing
// discipline that somebody chose stays.
func Unqueue(tap int) error {
	if off, err := Unqueued(tap); err != nil || off {
		return err
	}
	if err := netlink.QdiscAdd(noQueue(tap)); err != nil {
		return fmt.Errorf("take queueing discipline off link %d: %w", tap, err)
	}
	return nil
}

// Requeue gives the tap the kernel's default again, if Unqueue took it off.
func Requeue(tap int) error {
	q, err := tc.Read(tap, netlink.HANDLE_ROOT)
	if err != nil || q.Kind != noQueueKind || q.Handle == 0 {
		return err
	}
	if err := netlink.QdiscDel(noQueue(tap)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("give link %d its queueing discipline back: %w", tap, err)
	}
	return nil
}

// Unqueued tells whether the tap is without the kernel's default queueing
// discipline: it has none, or one that somebody chose.
func Unqueued(tap int) (bool, error) {
	q, err := tc.Read(tap, netlink.HANDLE_ROOT)
	return q.Handle != 0, err
}

const noQueueKind = "noqueue"

func noQueue(tap int) netlink.Qdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: tap, Parent: netlink.HANDLE_ROOT}, QdiscType: noQueueKind,
	}
}

// InstallShortcut makes the port's frames to the guest take the upper device,
// which must be up. Both are in the namespace of the calling thread.
func InstallShortcut(port, upper int) error {
	if err := shortcut(port, upper).install(); err != nil {
		return fmt.Errorf("shorten the way from link %d by link %d: %w", port, upper, err)
	}
	return nil
}

// ObserveShortcut tells whether the shortcut is in place.
func ObserveShortcut(port, upper int) (bool, error) {
	return shortcut(port, upper).observe()
}

// RemoveShortcut takes the program off the port, whatever its target is. That
// there is none is no error.
func RemoveShortcut(port int) error { return shortcut(port, 0).Detach() }

func shortcut(port, upper int) half {
	at := tcbpf.Filter{Link: port, Hook: tc.Egress, Priority: ShortcutPriority, Name: "microvm-cni:shortcut", Program: toGuest}
	return half{Filter: at, code: tcbpf.Redirect(redirect, int32(upper))}
}
