package guard

import "net"

// Supported returns an error that says what to do if this host cannot have
// guards. It loads one, without attaching it.
func Supported() error {
	program, err := parsed()
	if err != nil {
		return err
	}
	r := Rules{MACs: []net.HardwareAddr{{2, 0, 0, 0, 0, 1}}}
	shared, _ := encode(r.Canonical(), 0)
	l, err := load(program, shared)
	if err != nil {
		return err
	}
	return l.Close()
}
