package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Guards hold guests to what is theirs: pkg/datapath/guard, which is not linked
// into a plugin that has no use for it. Ports are told by their indexes in the
// namespace of the calling thread.
type Guards interface {
	// Expect says that a port will get such a guard, but for its addresses, so that
	// much of the work may be done by then. It returns at once.
	Expect(g linkspec.Guard)
	// Attach guards a port, down or not a port yet, in the place of what guards it.
	// Bypass is what is known to be before a guard, and refused.
	Attach(port int, g linkspec.Guard) error
	// Keep keeps for guests to come what attaching the last one took, if the host has a
	// place for that.
	Keep() error
	// Forget ends what is kept in the thread's network namespace.
	Forget() error
	// Detach takes the guard off. That there is none is no error.
	Detach(port int) error
	// Observe returns what guards the port; the zero value for nothing that works.
	Observe(port int) (linkspec.Guard, error)
	// Drops returns how many frames the guard stopped, by reason; none where
	// nothing guards the port.
	Drops(port int) (map[string]uint64, error)
	// Supported tells why this host cannot have guards, or what its guards will lack.
	Supported() (caveat string, err error)
}

// WithGuards makes New return a kernel that can guard ports. nil is none.
func WithGuards(g Guards) Option {
	return func(k *Kernel) { k.guards = g }
}

// GuardSupported returns an error that says what to do if ports cannot be guarded,
// or what their guards will lack and what to do about that.
func (k *Kernel) GuardSupported() (caveat string, err error) {
	if k.guards == nil {
		return "", errors.ErrUnsupported
	}
	return k.guards.Supported()
}

// GuardClosesHost returns an error that says what to do if guards cannot keep guests of
// that bridge from the host, or by which way they cannot and what to do about that.
func (k *Kernel) GuardClosesHost(bridge string) (caveat string, err error) {
	reply, err := k.conn.get(getLink(bridge))
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return "", wrap("look up "+bridge, err)
	}
	var via router
	if err == nil {
		if via, err = k.routerIn(decodeLink(reply)); err == nil {
			err = via.stays()
		}
		if err != nil {
			return "", err
		}
	}
	var all, one []string
	for _, family := range []string{"iptables", "ip6tables"} {
		key := "net.bridge.bridge-nf-call-" + family
		if value, err := k.Sysctl(key); err == nil && value != "0" {
			all = append(all, key+"=0")
		}
		if via.sysfs("bridge/nf_call_"+family) == "1" {
			one = append(one, "nf_call_"+family+" 0")
		}
	}
	var remedies []string
	if all != nil {
		remedies = append(remedies, "sysctl -w "+strings.Join(all, " "))
	}
	if one != nil {
		remedies = append(remedies, "ip link set "+bridge+" type bridge "+strings.Join(one, " "))
	}
	if remedies == nil {
		return "", nil
	}
	return "NAT rules of the host hear what is bridged, and may turn to the host what hostAccess lets pass to others (kube-proxy wants that, and then it is so): " + strings.Join(remedies, "; "), nil
}

// ExpectGuard says that a port of the host will get such a guard, but for its
// addresses, of which only the number counts. It returns at once.
func (k *Kernel) ExpectGuard(g linkspec.Guard) {
	if k.guards != nil && !g.Off() {
		k.guards.Expect(g)
	}
}

// KeepGuard keeps for guests to come what the guard of the last port took, if the host
// has a place for that. It is for an ADD that cannot fail any more.
func (k *Kernel) KeepGuard() error {
	if k.guards == nil {
		return nil
	}
	return wrap("keep the guard's program", k.guards.Keep())
}

// ForgetGuards ends what KeepGuard left on the host.
func (k *Kernel) ForgetGuards() error {
	if k.guards == nil {
		return nil
	}
	return wrap("forget the guard's program", k.guards.Forget())
}

// GuardDrops returns how many frames of the guest behind the port its guard
// stopped, by reason.
func (k *Kernel) GuardDrops(port string) (map[string]uint64, error) {
	if k.guards == nil {
		return nil, nil
	}
	reply, err := k.conn.get(getLink(port))
	if err != nil {
		return nil, wrap("look up "+port, err)
	}
	drops, err := k.guards.Drops(decodeLink(reply).link.Index)
	return drops, wrap("count what was dropped", err)
}

func (k *Kernel) setGuard(l, change linkspec.Link) error {
	switch {
	case change.Guard == nil || change.Guard.Off():
		return nil
	case k.guards == nil:
		return wrap("guard", errors.ErrUnsupported)
	}
	g := *change.Guard
	g.Bypass = atXDP(l)
	if g.Via != "" && g.Router == 0 { // else it was read back, and knows its router
		reply, err := k.conn.get(getLink(g.Via))
		if err != nil {
			return wrap("look up "+g.Via, err)
		}
		via, err := k.routerIn(decodeLink(reply))
		if err != nil {
			return err
		}
		if g.HostAccess != linkspec.HostAll {
			if err = via.stays(); err != nil {
				return err
			}
		}
		if l, err = k.withMAC(l, change); err != nil {
			return err
		}
		via.toldTo(&g, l)
	}
	return wrap("attach guard", k.guards.Attach(l.Index, g))
}

// takeOffGuard comes when a port that is to leave its bridge has left.
func (k *Kernel) takeOffGuard(l, change linkspec.Link) error {
	if change.Guard == nil || !change.Guard.Off() || k.guards == nil {
		return nil
	}
	return wrap("take off guard", k.guards.Detach(l.Index))
}

// Guard returns the port's guard. One that was told of another router than the
// one that Via now stands for says so: it keeps its index.
func (k *Kernel) Guard(port linkspec.Link) (linkspec.Guard, error) {
	if k.guards == nil {
		return linkspec.Guard{}, wrap("guard", errors.ErrUnsupported)
	}
	g, err := k.guards.Observe(port.Index)
	if before := atXDP(port); before != "" && !g.Off() {
		g.Bypass = before
	}
	if err != nil || g.Router == 0 {
		return g, wrap("look at guard", err)
	}
	reply, err := k.conn.get(newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, g.Router, 0, 0)...).u32(unix.IFLA_EXT_MASK, extSkipStats))
	if errors.Is(err, unix.ENODEV) {
		return g, nil
	}
	if err != nil {
		return g, wrap("look at the guard's router", err)
	}
	via, err := k.routerIn(decodeLink(reply))
	if err != nil {
		return g, err
	}
	if port, err = k.withMAC(port, linkspec.Link{}); err != nil {
		return g, err
	}
	asDeclared := g
	asDeclared.Via, asDeclared.Router, asDeclared.HostMACs = via.Name, 0, nil
	asDeclared.Gateways = slices.DeleteFunc(slices.Clone(g.Gateways), func(a netip.Addr) bool { return a == linkspec.LinkLocal(via.MAC) })
	again := asDeclared
	if via.toldTo(&again, port); again.Canonical().Equal(g) {
		return asDeclared, nil
	}
	g.Via = fmt.Sprintf("%s when the host had other MAC addresses (%v by now)", via.Name, again.HostMACs)
	return g, nil
}

// atXDP names the program that takes the device's frames before all others do.
func atXDP(l linkspec.Link) string {
	if l.XDP == 0 {
		return ""
	}
	return fmt.Sprintf("program %d at XDP", l.XDP)
}

// router is the device with which the host takes a guest's frames: a bridge, or a VLAN
// device on one.
type router struct {
	linkspec.Link
	bridge linkspec.Link
}

func (k *Kernel) routerIn(r record) (router, error) {
	via := router{r.link, r.link}
	if r.link.Kind == linkspec.VLANDevice && r.below != 0 {
		below, err := k.recordOf(r.below)
		if err != nil {
			return via, wrap("look up the device below "+via.Name, err)
		}
		via.bridge = below.link
	}
	return via, nil
}

// toldTo puts what a guard needs to know of its router and its port in the place of
// Via. Of the host's addresses on a bridge, IP hears only frames to these: a VLAN device
// takes what is to the bridge, too.
func (via router) toldTo(g *linkspec.Guard, port linkspec.Link) {
	g.Router, g.HostMACs, g.Via = via.Index, []net.HardwareAddr{via.MAC, via.bridge.MAC, port.MAC}, ""
	g.Gateways = append(slices.Clone(g.Gateways), linkspec.LinkLocal(via.MAC))
}

// stays refuses a bridge whose MAC address follows those of its ports: to the guard what is
// to the next one would be a neighbour's. Only sysfs tells, which may be that of another
// network namespace, or not be there.
func (via router) stays() error {
	const set = "3" // NET_ADDR_SET
	index, how := via.sysfs("ifindex"), via.sysfs("addr_assign_type")
	if index != strconv.Itoa(via.bridge.Index) || how == "" || how == set {
		return nil
	}
	return cnierr.New(cnierr.Config, fmt.Sprintf("give it one of its own, not that which it has: ip link set %s address %s (systemd-networkd: MACAddress=)", via.bridge.Name, stableMAC(via.bridge.Name)),
		"the MAC address of bridge %s changes with its ports, and hostAccess goes by it", via.bridge.Name)
}

// sysfs is what sysfs tells of the bridge; "" for nothing.
func (via router) sysfs(name string) string {
	if via.bridge.Name == "" {
		return ""
	}
	b, err := os.ReadFile("/sys/class/net/" + via.bridge.Name + "/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// withMAC is the link with the MAC address that it has, or is given.
func (k *Kernel) withMAC(l, change linkspec.Link) (linkspec.Link, error) {
	if change.MAC != nil {
		l.MAC = change.MAC
	}
	if l.MAC != nil {
		return l, nil
	}
	got, err := k.recordOf(l.Index)
	l.MAC = got.link.MAC
	return l, wrap("look up "+l.Name, err)
}
