package fake

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// stations are the addresses that are bound to a port.
func (n *link) stations() []net.HardwareAddr {
	var macs []net.HardwareAddr
	for _, text := range slices.Sorted(maps.Keys(n.master.static)) {
		if mac, err := net.ParseMAC(text); err == nil && n.master.static[text] == n {
			macs = append(macs, mac)
		}
	}
	return macs
}

func (k *Kernel) setStations(n *link, change linkspec.Link) error {
	for _, mac := range change.NoStations {
		if n.master != nil && n.master.static[mac.String()] == n {
			delete(n.master.static, mac.String())
		}
	}
	for _, mac := range change.Stations {
		if n.Kind == linkspec.Bridge {
			delete(n.static, mac.String())
			continue
		}
		if n.master == nil {
			return fmt.Errorf("bind %s to the port: %w", mac, errors.New("not a port of a bridge"))
		}
		for _, other := range k.links {
			own := (other == n.master || other.master == n.master) && bytes.Equal(other.MAC, mac)
			if other != n && (own || n.master.static[mac.String()] == other) {
				return fmt.Errorf("bind %s to the port: another port of %s has it: %w", mac, n.master.Name, fs.ErrExist)
			}
		}
		n.master.static[mac.String()] = n
	}
	return nil
}
