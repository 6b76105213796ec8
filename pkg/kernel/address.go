package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// setAddresses removes first, since the kernel lets an IPv6 address be there
// once only, with one prefix length.
func (k *Kernel) setAddresses(l, change linkspec.Link) error {
	for _, p := range change.NoAddresses {
		err := k.removeAddress(l.Index, p)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s: %w", p, err)
		}
	}
	for _, a := range append(bystanders(l, change), change.Addresses...) {
		if err := k.ensureAddress(l.Index, a); err != nil {
			return fmt.Errorf("add address %s: %w", a.Prefix, err)
		}
	}
	return nil
}

// bystanders are IPv4 addresses that were not to be removed, and yet may be
// gone: with the first address of a subnet the kernel drops the others of that
// subnet (unless promote_secondaries is set).
func bystanders(l, change linkspec.Link) []linkspec.Address {
	if !slices.ContainsFunc(change.NoAddresses, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		return nil
	}
	var addrs []linkspec.Address
	for _, a := range l.Addresses {
		if a.Prefix.Addr().Is4() && !slices.Contains(change.NoAddresses, a.Prefix) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// ensureAddress adds an address, unless it is there and in working order.
func (k *Kernel) ensureAddress(index int, a linkspec.Address) error {
	err := k.addAddress(index, a)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	have, listErr := k.addresses(index)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, h := range have {
		switch {
		case h.Prefix == a.Prefix && !h.Failed && (h.NoDAD == a.NoDAD || !a.Exact):
			return nil
		case h.Prefix == a.Prefix:
			return k.replaceAddress(index, a)
		case h.Prefix.Addr() == a.Prefix.Addr():
			return cnierr.New(cnierr.Config, fmt.Sprintf("remove it, or configure %s", h.Prefix),
				"the device has that address as %s: %w", h.Prefix, err)
		}
	}
	return err
}

// replaceAddress makes duplicate address detection begin anew, or skips it.
func (k *Kernel) replaceAddress(index int, a linkspec.Address) error {
	if err := k.removeAddress(index, a.Prefix); err != nil {
		return fmt.Errorf("remove the one that is there: %w", err)
	}
	return k.addAddress(index, a)
}

func (k *Kernel) addAddress(index int, a linkspec.Address) error {
	m := address(unix.RTM_NEWADDR, index, a.Prefix, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if a.NoDAD && a.Prefix.Addr().Is6() {
		m.u32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	if broadcast, ok := broadcastOf(a.Prefix); ok {
		m.attr(unix.IFA_BROADCAST, broadcast.AsSlice())
	}
	return k.conn.do(m)
}

func (k *Kernel) removeAddress(index int, p netip.Prefix) error {
	return k.conn.do(address(unix.RTM_DELADDR, index, p, 0))
}

// address begins a request about an address (struct ifaddrmsg).
func address(typ uint16, index int, p netip.Prefix, flags uint16) *message {
	family := uint8(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	body := native.AppendUint32([]byte{family, uint8(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE}, uint32(index))
	ip := p.Addr().AsSlice()
	return newMessage(typ, flags, body...).attr(unix.IFA_LOCAL, ip).attr(unix.IFA_ADDRESS, ip)
}

// broadcastOf is the last address of an IPv4 subnet, where one is set aside.
func broadcastOf(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}, false
	}
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b), true
}
