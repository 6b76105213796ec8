package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// owns tells whether the link is the attachment's own tap: by its handle, which
// no rename takes away, or by its tag.
func owns(a attachment.Attachment, l linkspec.Link) bool {
	if l.Kind != linkspec.Tap {
		return false
	}
	if slices.Contains(l.AltNames, a.TapHandle()) {
		return true
	}
	tag, ok := attachment.TagOf(l.Alias)
	return ok && tag.Names(a)
}

// find returns the first link in a namespace that goes by one of the names and is
// the attachment's, as told by mine. The error is fs.ErrNotExist if there is none.
func find(k Kernel, netns string, names []string, mine func(linkspec.Link) bool) (linkspec.Link, error) {
	for _, name := range names {
		l, err := k.LinkIn(netns, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return linkspec.Link{}, fmt.Errorf("look up %s: %w", linkspec.Key(netns, name), err)
		}
		if mine(l) {
			return l, nil
		}
	}
	return linkspec.Link{}, fs.ErrNotExist
}

// Owned returns the attachment's own tap. The names are where to look for it if
// its handle was taken away.
func Owned(k Kernel, a attachment.Attachment, names ...string) (linkspec.Link, error) {
	return ownedIn(k, "", a, names...)
}

func ownedIn(k Kernel, netns string, a attachment.Attachment, names ...string) (linkspec.Link, error) {
	return find(k, netns, append([]string{a.TapHandle(), a.TapName()}, names...),
		func(l linkspec.Link) bool { return owns(a, l) })
}

// Held returns the port that the bridge plugin joined for the attachment, or
// is about to join: the link that carries its handle, else its own port, else
// its own tap.
func Held(k Kernel, a attachment.Attachment, names ...string) (linkspec.Link, error) {
	l, err := held(k, a)
	if errors.Is(err, fs.ErrNotExist) {
		return Owned(k, a, names...)
	}
	return l, err
}

// Disconnect takes a held port off its bridge and sets it down, so that its
// guest hears and says nothing more. That there is none is no error. The handle
// stays: as long as it is there, the attachment's addresses are not free. Devices
// are the attachment's, which the port is limited by. The bridge is the one that
// the port was on, whatever the configuration says by now; "" for none.
func Disconnect(k Kernel, a attachment.Attachment, devices []linkspec.Link, names ...string) (bridge string, err error) {
	l, err := Held(k, a, names...)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return bridgeUnder(l), disconnect(k, l, len(devices) > 0 || limited(l))
}

func bridgeUnder(port linkspec.Link) string {
	if port.Master == nil {
		return ""
	}
	return *port.Master
}

func disconnect(k Kernel, l linkspec.Link, limited bool) error {
	change := linkspec.Link{Master: new(""), Up: new(false)}
	if limited {
		change.Shaping = &linkspec.Shaping{}
	}
	err := k.Set(l, change)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("disconnect %s: %w", l.Name, err)
	}
	return nil
}

// Forget takes the bridge plugin's handle off a port that nothing is held by
// any more. A port that the plugin made itself goes with it. One that a repair, which
// had looked before Disconnect, put back on one of the bridges is taken off again:
// without a handle nobody would find it there.
func Forget(ctx context.Context, k Kernel, a attachment.Attachment, bridges ...string) error {
	l, err := held(k, a)
	if errors.Is(err, fs.ErrNotExist) {
		return deletePort(k, a)
	}
	if err != nil {
		return fmt.Errorf("look up port: %w", err)
	}
	if ownsPort(a, l) {
		return deletePort(k, a, l)
	}
	change := linkspec.Link{NoAltNames: []string{a.PortHandle()}}
	if !owns(a, l) { // a tap of ours takes its guard with it
		change.Guard = &linkspec.Guard{}
	}
	return letGo(ctx, k, l, change, bridges)
}

// letGo makes the change that ends what the bridge plugin has to do with a port, once
// it is on none of the bridges. The lock keeps a repair from putting it there.
func letGo(ctx context.Context, k Kernel, l, change linkspec.Link, bridges []string) error {
	unlock, err := k.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := k.LinkIn(l.Netns, l.Name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && now.Index != l.Index {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up port: %w", err)
	}
	if on := bridgeUnder(now); on != "" && slices.Contains(bridges, on) {
		if err = disconnect(k, now, limited(now)); err != nil {
			return err
		}
	}
	err = k.Set(now, change)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget %s: %w", l.Name, err)
	}
	return nil
}

// ReleaseBridge deletes a bridge that this software made and that has no ports.
// Any other bridge, and none at all, is left alone.
func ReleaseBridge(ctx context.Context, k Kernel, name string) error {
	// Most often there are other ports: look before waiting for the lock.
	if idle, err := idleBridge(k, name); err != nil || idle == nil {
		return err
	}
	unlock, err := k.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return releaseBridge(k, name)
}

func releaseBridge(k Kernel, name string) error {
	idle, err := idleBridge(k, name)
	if err != nil || idle == nil {
		return err
	}
	if err := k.Delete(*idle); err != nil {
		return fmt.Errorf("delete bridge %s: %w", name, err)
	}
	return nil
}

// idleBridge returns the bridge of that name if it is ours and has no ports.
func idleBridge(k Kernel, name string) (*linkspec.Link, error) {
	l, err := k.Link(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up bridge %s: %w", name, err)
	}
	if l.Kind != linkspec.Bridge || l.Alias == nil || *l.Alias != attachment.BridgeTag {
		return nil, nil
	}
	used, err := k.AnyPort(l.Name, func(linkspec.Link) bool { return true })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for ports of %s: %w", name, err)
	}
	if used {
		return nil, nil
	}
	return &l, nil
}

// Stale is a link of a network whose attachment is not valid any more.
type Stale struct {
	Link linkspec.Link
	// Attachment is what the link's tag names. Known is false where the tag is
	// gone or had to be shortened, so that no delegate can be called for it.
	Attachment attachment.Attachment
	Known      bool
	// Own is true for a tap or port that this software made.
	Own bool
	// Device is true for an ifb device that limits a guest, and for an upper device.
	Device bool
}

// StaleTaps returns the taps that this software made for other attachments of
// the network than the valid ones. Those that the bridge plugin holds are left
// to its own sweep, because addresses hang on them.
func StaleTaps(k Kernel, network string, valid []attachment.Attachment) ([]Stale, error) {
	return sweep(k, network, valid, func(s Stale) bool {
		return s.Own && s.Link.Kind == linkspec.Tap && !attachment.HasPortHandle(s.Link.AltNames)
	})
}

// StalePorts returns the ports that the bridge plugin holds for other
// attachments of the network than the valid ones, and the ifb and upper devices
// that it made for them.
func StalePorts(k Kernel, network string, valid []attachment.Attachment) ([]Stale, error) {
	return sweep(k, network, valid, func(s Stale) bool {
		return s.Device || attachment.HasPortHandle(s.Link.AltNames) || s.Own && s.Link.Kind == linkspec.Veth
	})
}

func sweep(k Kernel, network string, valid []attachment.Attachment, of func(Stale) bool) ([]Stale, error) {
	links, err := k.Links()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	handles, tags := map[string]bool{}, map[attachment.Attachment]bool{}
	for _, a := range valid {
		handles[a.TapHandle()], handles[a.PortHandle()] = true, true
		for _, written := range attachment.AsTagged(a) {
			tags[written] = true
		}
	}
	var stale []Stale
	for _, l := range links {
		s, ours := claim(l, network)
		if !ours || slices.ContainsFunc(l.AltNames, func(name string) bool { return handles[name] }) {
			continue
		}
		if tag, ok := attachment.TagOf(l.Alias); ok && (s.Own || s.Device) && tags[tag.Attachment] {
			continue
		}
		if of(s) {
			stale = append(stale, s)
		}
	}
	return stale, nil
}

// claim tells whether the link is held for an attachment of the network, and
// for which.
func claim(l linkspec.Link, network string) (s Stale, ours bool) {
	if isDevice(l.Kind) {
		return claimDevice(l, network)
	}
	s.Link = l
	for _, name := range l.AltNames {
		if strings.HasPrefix(name, attachment.TapHandlePrefix(network)) && l.Kind == linkspec.Tap {
			s.Own, ours = true, true
		}
		if strings.HasPrefix(name, attachment.PortHandlePrefix(network)) {
			ours = true
		}
	}
	made := l.Kind == linkspec.Tap || l.Kind == linkspec.Veth
	if tag, ok := attachment.TagOf(l.Alias); ok && made && tag.OnNetwork(network) {
		s.Own, ours = true, true
		s.Attachment, s.Known = tag.Attachment, tag.Exact()
		s.Attachment.Network = network
	}
	return s, ours
}

// DeleteStale deletes links that a sweep returned.
func DeleteStale(k Kernel, stale []Stale) error {
	if len(stale) == 0 {
		return nil
	}
	links := make([]linkspec.Link, len(stale))
	for i, s := range stale {
		links[i] = s.Link
	}
	if err := k.Delete(links...); err != nil {
		return fmt.Errorf("delete stale links: %w", err)
	}
	return nil
}

// DisconnectStale takes a stale port off its bridge, and returns that.
func DisconnectStale(k Kernel, s Stale) (bridge string, err error) {
	return bridgeUnder(s.Link), disconnect(k, s.Link, limited(s.Link))
}

// ForgetStale takes the bridge plugin's handles of the network off a port that
// somebody else made and will remove, and the port off the bridges as Forget does.
func ForgetStale(ctx context.Context, k Kernel, s Stale, network string, bridges ...string) error {
	var handles []string
	for _, name := range s.Link.AltNames {
		if strings.HasPrefix(name, attachment.PortHandlePrefix(network)) {
			handles = append(handles, name)
		}
	}
	return letGo(ctx, k, s.Link, linkspec.Link{NoAltNames: handles, Guard: &linkspec.Guard{}}, bridges)
}
