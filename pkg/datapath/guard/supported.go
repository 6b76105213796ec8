package guard

import "net"

// Supported returns an error that says what to do if this host cannot have
// guards. It loads one, without attaching it.
func Supported() error {
	w, err := want(Rules{MACs: []net.HardwareAddr{{2, 0, 0, 0, 0, 1}}})
	if err != nil {
		return err
	}
	l, err := w.load()
	if err != nil {
		return err
	}
	return l.Close()
}
