package guard

import (
	"fmt"
	"net"
)

// Supported returns an error that says what to do if this host cannot have guards,
// or what they will lack. It loads one, without attaching it.
func Supported() (caveat string, err error) {
	w, err := want(Rules{MACs: []net.HardwareAddr{{2, 0, 0, 0, 0, 1}}})
	if err != nil {
		return "", err
	}
	l, blind, err := w.loadSome()
	if err != nil {
		return "", err
	}
	if blind != nil {
		caveat = fmt.Sprintf("the guard cannot see where guests leave checksums to the kernel (%v): if TCP does not get through, boot a kernel with CONFIG_DEBUG_INFO_BTF and at most lockdown=integrity, or let guests sum up themselves (ethtool -K eth0 tx off)", blind)
	}
	return caveat, l.Close()
}
