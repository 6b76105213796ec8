package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// minIPv6MTU is the MTU in bytes below which the kernel takes IPv6 off a device
// (IPV6_MIN_MTU; RFC 8200, section 5).
const minIPv6MTU = 1280

// Sysctl reads a kernel parameter of the calling thread's network namespace.
func (k *Kernel) Sysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// SetSysctl writes a kernel parameter of the calling thread's network namespace.
func (k *Kernel) SetSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	return unwritable(linkspec.Sysctl{Key: key, Value: value}, writeFile(path, value))
}

// CanSet returns an error that says what to do if the parameter is not as it should
// be, and cannot be set either.
func (k *Kernel) CanSet(s linkspec.Sysctl) error {
	value, err := k.Sysctl(s.Key)
	if err != nil || value == s.Value {
		return err
	}
	path, err := sysctlPath(s.Key)
	if err != nil {
		return err
	}
	return unwritable(s, unix.Access(path, unix.W_OK))
}

func unwritable(s linkspec.Sysctl, err error) error {
	if errors.Is(err, unix.EROFS) {
		return cnierr.New(cnierr.Kernel,
			"set it on the host (sysctl -w "+s.Key+"="+s.Value+", and in /etc/sysctl.d), or give the runtime a /proc/sys that can be written",
			"set sysctl %s to %s: %w", s.Key, s.Value, err)
	}
	return wrap("set sysctl "+s.Key+" to "+s.Value, err)
}

// sysctlPath turns the dots of a key into slashes. No part of a key may be
// empty, so that a key cannot lead out of /proc/sys.
func sysctlPath(key string) (string, error) {
	path := strings.ReplaceAll(key, ".", "/")
	if strings.Contains(key, "/") || !fs.ValidPath(path) {
		return "", fmt.Errorf("sysctl %q: %w", key, fs.ErrInvalid)
	}
	return "/proc/sys/" + path, nil
}

// writeFile writes to a file that is there.
func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func (k *Kernel) setIPv6(l, change linkspec.Link) error {
	if change.IPv6 != nil {
		if err := k.setConf(6, l.Name, "disable_ipv6", !*change.IPv6, !*change.IPv6); err != nil {
			return fmt.Errorf("set IPv6: %w", err)
		}
	}
	if change.AcceptRA != nil {
		if err := k.setConf(6, l.Name, "accept_ra", *change.AcceptRA, !*change.AcceptRA); err != nil {
			return fmt.Errorf("set accept_ra: %w", err)
		}
	}
	return nil
}

// setNewIPv6 sets IPv6 again on a device that had too short an MTU for it: with
// a longer one the kernel gives it IPv6 anew, as it would a new device.
func (k *Kernel) setNewIPv6(l, change linkspec.Link) error {
	if change.MTU == nil || l.MTU == nil || *l.MTU >= minIPv6MTU || *change.MTU < minIPv6MTU {
		return nil
	}
	return k.setIPv6(l, change)
}

func (k *Kernel) setIPv4(l, change linkspec.Link) error {
	for _, p := range []struct {
		name  string
		value *bool
	}{{"arp_ignore", change.ARPIgnore}, {"forwarding", change.Forwarding}} {
		if p.value == nil {
			continue
		}
		if err := k.setConf(4, l.Name, p.name, *p.value, !*p.value); err != nil {
			return fmt.Errorf("set %s: %w", p.name, err)
		}
	}
	return nil
}

// setConf sets a parameter of that version of IP on one device. Where IP knows
// nothing of the device, or is not there at all, what turns something off is done
// already.
func (k *Kernel) setConf(version int, name, parameter string, value, off bool) error {
	path := fmt.Sprintf("/proc/sys/net/ipv%d/conf/%s/%s", version, name, parameter)
	err := k.run(func() error { return writeFile(path, string('0'+rune(bit(value)))) })
	if off && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
