package shape

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// CreateDevice makes an ifb device, up, and returns its interface index. A name
// that is taken is fs.ErrExist.
func CreateDevice(name string) (int, error) {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.Flags = name, net.FlagUp
	if err := explain(netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attributes}), "create ifb device %s", name); err != nil {
		return 0, err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find ifb device %s: %w", name, err)
	}
	return link.Attrs().Index, nil
}

// DeleteDevice deletes the ifb device. That it is not there is no error; that
// the name belongs to a device of another kind is one.
func DeleteDevice(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find ifb device %s: %w", name, err)
	}
	if link.Type() != "ifb" {
		return cnierr.New(cnierr.Exists, "it is not ours, and it stays: rename it if the name is needed", "%s is no ifb device but a %s device", name, link.Type())
	}
	return explain(netlink.LinkDel(link), "delete ifb device %s", name)
}
