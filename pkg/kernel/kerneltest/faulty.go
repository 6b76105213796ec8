package kerneltest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

// FaultyKernel is a kernel of which one call fails.
type FaultyKernel struct {
	// Torn makes the call that fails leave half of its work done: a Set that
	// sets names, attributes and bridge but neither port flags, VLANs, addresses nor
	// up, a Delete that deletes the first link.
	Torn bool

	k     reconcile.Kernel
	n     int
	err   error
	mu    sync.Mutex
	calls []string
}

// Faulty returns a kernel that is k, but for its nth call, counted from 1,
// which fails with err. The calls of drafts count, unlock does not. With an n
// of 0 none fails.
func Faulty(k reconcile.Kernel, n int, err error) *FaultyKernel {
	return &FaultyKernel{k: k, n: n, err: err}
}

// Calls returns the calls up to now: the name of the method, and of what.
func (f *FaultyKernel) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// call notes a call, and returns the error if it is the one that fails.
func (f *FaultyKernel) call(words ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, strings.Join(words, " "))
	if len(f.calls) == f.n {
		return f.err
	}
	return nil
}

// Link is a call of k.
func (f *FaultyKernel) Link(name string) (linkspec.Link, error) {
	if err := f.call("Link", name); err != nil {
		return linkspec.Link{}, err
	}
	return f.k.Link(name)
}

// LinkIn is a call of k.
func (f *FaultyKernel) LinkIn(netns, name string) (linkspec.Link, error) {
	if err := f.call("Link", linkspec.Key(netns, name)); err != nil {
		return linkspec.Link{}, err
	}
	return f.k.LinkIn(netns, name)
}

// Links is a call of k.
func (f *FaultyKernel) Links() ([]linkspec.Link, error) {
	if err := f.call("Links"); err != nil {
		return nil, err
	}
	return f.k.Links()
}

// Ports is a call of k.
func (f *FaultyKernel) Ports(bridge string) ([]linkspec.Link, error) {
	if err := f.call("Ports", bridge); err != nil {
		return nil, err
	}
	return f.k.Ports(bridge)
}

// AnyPort is a call of k.
func (f *FaultyKernel) AnyPort(bridge string, ok func(linkspec.Link) bool) (bool, error) {
	if err := f.call("AnyPort", bridge); err != nil {
		return false, err
	}
	return f.k.AnyPort(bridge, ok)
}

// Routes is a call of k.
func (f *FaultyKernel) Routes(name string) ([]netip.Prefix, error) {
	if err := f.call("Routes", name); err != nil {
		return nil, err
	}
	return f.k.Routes(name)
}

// Create is a call of k, and so are Keep and Discard of what it returns.
func (f *FaultyKernel) Create(l linkspec.Link) (linkspec.Draft, error) {
	if err := f.call("Create", l.Name); err != nil {
		return nil, err
	}
	d, err := f.k.Create(l)
	if err != nil {
		return nil, err
	}
	return &faultyDraft{f: f, d: d, name: l.Name}, nil
}

// Set is a call of k.
func (f *FaultyKernel) Set(l, change linkspec.Link) error {
	fault := f.call("Set", l.Name)
	if fault == nil {
		return f.k.Set(l, change)
	}
	if f.Torn {
		first := change
		first.Hairpin, first.Isolated, first.Addresses, first.NoAddresses, first.Up, first.Shaping = nil, nil, nil, nil, nil, nil
		first.VLANs, first.Carried = nil, nil
		if err := f.k.Set(l, first); err != nil {
			return err
		}
	}
	return fault
}

// Delete is a call of k.
func (f *FaultyKernel) Delete(links ...linkspec.Link) error {
	fault := f.call(append([]string{"Delete"}, names(links)...)...)
	if fault == nil {
		return f.k.Delete(links...)
	}
	if f.Torn && len(links) > 1 {
		if err := f.k.Delete(links[0]); err != nil {
			return err
		}
	}
	return fault
}

// Holder is a call of k.
func (f *FaultyKernel) Holder(bridge string, mac net.HardwareAddr) (string, error) {
	if err := f.call("Holder", bridge, mac.String()); err != nil {
		return "", err
	}
	return f.k.Holder(bridge, mac)
}

// CanFilter is a call of k.
func (f *FaultyKernel) CanFilter() error {
	if err := f.call("CanFilter"); err != nil {
		return err
	}
	return f.k.CanFilter()
}

// Sysctl is a call of k.
func (f *FaultyKernel) Sysctl(key string) (string, error) {
	if err := f.call("Sysctl", key); err != nil {
		return "", err
	}
	return f.k.Sysctl(key)
}

// SetSysctl is a call of k.
func (f *FaultyKernel) SetSysctl(key, value string) error {
	if err := f.call("SetSysctl", key, value); err != nil {
		return err
	}
	return f.k.SetSysctl(key, value)
}

// Guard is a call of k.
func (f *FaultyKernel) Guard(port linkspec.Link) (linkspec.Guard, error) {
	if fault := f.call("Guard", port.Name); fault != nil {
		return linkspec.Guard{}, fault
	}
	return f.k.Guard(port)
}

// Shaping is a call of k.
func (f *FaultyKernel) Shaping(port linkspec.Link, of linkspec.Shaping) (linkspec.Shaping, error) {
	if err := f.call("Shaping", port.Name); err != nil {
		return linkspec.Shaping{}, err
	}
	return f.k.Shaping(port, of)
}

// Masquerades is a call of k.
func (f *FaultyKernel) Masquerades(of linkspec.Masquerade) ([]linkspec.Masquerade, error) {
	if err := f.call("Masquerades", of.Network); err != nil {
		return nil, err
	}
	return f.k.Masquerades(of)
}

// Masquerade is a call of k.
func (f *FaultyKernel) Masquerade(m linkspec.Masquerade) error {
	if err := f.call("Masquerade", m.Network); err != nil {
		return err
	}
	return f.k.Masquerade(m)
}

// Unmasquerade is a call of k.
func (f *FaultyKernel) Unmasquerade(m linkspec.Masquerade) error {
	if err := f.call("Unmasquerade", m.Network); err != nil {
		return err
	}
	return f.k.Unmasquerade(m)
}

// Lock is a call of k.
func (f *FaultyKernel) Lock(ctx context.Context) (unlock func(), err error) {
	if err := f.call("Lock"); err != nil {
		return nil, err
	}
	return f.k.Lock(ctx)
}

type faultyDraft struct {
	f    *FaultyKernel
	d    linkspec.Draft
	name string
}

func (d *faultyDraft) Keep() error {
	if err := d.f.call("Keep", d.name); err != nil {
		return err
	}
	return d.d.Keep()
}

func (d *faultyDraft) Discard() error {
	if err := d.f.call("Discard", d.name); err != nil {
		return err
	}
	return d.d.Discard()
}
