package plan

import (
	"fmt"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Uplink is a NIC of the host that a bridge has as a port.
type Uplink struct {
	Name     string
	Bridge   string
	Existing bool  // the bridge is somebody else's, and so is what its ports are
	MTU      int   // of the bridge, if it does not exist yet
	VLANs    []int // that it must be in, as guests are
}

// uplinkOf is nil where the configuration names none.
func uplinkOf(c *config.Bridge) *Uplink {
	if c.Uplink == "" {
		return nil
	}
	u := &Uplink{Name: c.Uplink, Bridge: c.Bridge, Existing: c.Existing, MTU: c.MTU, VLANs: wireVLANs(c)}
	if u.MTU == 0 {
		u.MTU = defaultMTU
	}
	return u
}

// wireVLANs are the VLANs of guests, which the uplink carries with their tags, but
// for the one that it is in natively.
func wireVLANs(c *config.Bridge) []int {
	vlans := slices.Clone(c.Trunk)
	if c.VLAN != 0 && !slices.Contains(vlans, c.VLAN) {
		vlans = append(vlans, c.VLAN)
	}
	slices.Sort(vlans)
	return vlans
}

// Observe names the links that Declare wants to know about.
func (u *Uplink) Observe() []string {
	if u == nil {
		return nil
	}
	return append([]string{u.Bridge, u.Name}, attachment.UplinkHandles(u.Bridge)...)
}

// Declare says what becomes of the NIC: it is lent to the bridge, unless
// somebody else made it a port already. One that cannot be a port, or that the
// host would miss, is refused.
func (u *Uplink) Declare(f Facts) (linkspec.Link, error) {
	want := linkspec.Link{Role: linkspec.Joined, Name: u.Name, Master: &u.Bridge, Up: new(true), InVLANs: u.VLANs}
	nic, there := f[u.Name]
	if !there {
		return want, cnierr.New(cnierr.Config, "give \"uplink\" the name of a NIC of the host (ip link lists them), and load its driver",
			"uplink %s does not exist", u.Name)
	}
	if nic.Name != u.Name {
		return want, cnierr.New(cnierr.Config, "write \"uplink\": \""+nic.Name+"\"", "uplink %s is another name of %s, which goes by its own here", u.Name, nic.Name)
	}
	lent, handle := u.lent(f)
	if lent != "" && lent != nic.Name {
		return want, cnierr.New(cnierr.Config,
			"name the same uplink in every network of one bridge, or DEL the guests of the bridge first: two NICs of one LAN on one bridge would be a loop",
			"uplink %s: bridge %s has %s as its uplink", u.Name, u.Bridge, lent)
	}
	if err := u.fits(nic, f); err != nil {
		return want, err
	}
	member := nic.Master != nil && *nic.Master == u.Bridge
	switch {
	case member && lent == "":
		if !*nic.Up {
			return want, cnierr.New(cnierr.Config, "set it up where it was made a port of the bridge: in the host's network manager, or ip link set "+u.Name+" up",
				"uplink %s is down", u.Name)
		}
		return want, u.carries(nic)
	case u.Existing && !member:
		return want, cnierr.New(cnierr.Config,
			"with \"bridgeMode\": \"existing\" the host's network manager makes it a port: Bridge="+u.Bridge+" in the NIC's .network file (systemd-networkd), nmcli connection modify NAME connection.master "+u.Bridge+" connection.slave-type bridge (NetworkManager), ip link set "+u.Name+" master "+u.Bridge+" (by hand); or remove \"uplink\"",
			"uplink %s is not a port of bridge %s", u.Name, u.Bridge)
	case !member:
		if err := u.unused(nic); err != nil {
			return want, err
		}
	}
	if lent == "" {
		handle = attachment.UplinkHandle(u.Bridge, *nic.Up)
	}
	want.Role, want.AltNames = linkspec.Lent, []string{handle}
	return want, nil
}

// lent is the name of the NIC that is lent to the bridge already, or about to
// be, and its handle; "" for none.
func (u *Uplink) lent(f Facts) (name, handle string) {
	for _, h := range attachment.UplinkHandles(u.Bridge) {
		if l, there := f[h]; there {
			return l.Name, h
		}
	}
	return "", ""
}

// fits refuses what can be no uplink of this bridge, ever.
func (u *Uplink) fits(nic linkspec.Link, f Facts) error {
	refuse := func(details, format string, a ...any) error {
		return cnierr.New(cnierr.Config, details, "uplink %s %s", u.Name, fmt.Sprintf(format, a...))
	}
	_, ours := attachment.TagOf(nic.Alias)
	switch {
	case nic.Kind == linkspec.Bridge:
		return refuse("name a NIC; to put guests on that bridge, name it as \"bridge\", with \"bridgeMode\": \"existing\"", "is a bridge itself")
	case ours || attachment.HasPortHandle(nic.AltNames):
		return refuse("name a NIC that leads out of the host", "is the tap of a guest")
	case len(nic.MAC) != 6 || nic.MAC[0]&1 != 0 || !slices.ContainsFunc(nic.MAC, func(b byte) bool { return b != 0 }):
		return refuse("name an Ethernet NIC (link/ether in what ip link says)", "is no Ethernet NIC: a loopback or tunnel device carries no frames")
	}
	mtu := u.MTU
	if bridge, there := f[u.Bridge]; there && bridge.MTU != nil {
		mtu = *bridge.MTU
	}
	if *nic.MTU < mtu {
		return refuse(fmt.Sprintf("give the NIC that MTU (ip link set %s mtu %d), or the bridge a smaller one (\"mtu\": %d)", u.Name, mtu, *nic.MTU),
			"has an MTU of %d, and bridge %s one of %d: longer frames would be lost", *nic.MTU, u.Bridge, mtu)
	}
	return nil
}

// carries refuses a port of somebody else's that is not in the guests' VLANs.
func (u *Uplink) carries(nic linkspec.Link) error {
	for _, id := range u.VLANs {
		if _, in := linkspec.FindVLAN(nic.VLANs, id); !in {
			return cnierr.New(cnierr.Config,
				fmt.Sprintf("put it into the VLAN where it was made a port of the bridge: [BridgeVLAN] VLAN=%[1]d in its .network file (systemd-networkd), bridge-port.vlans %[1]d (NetworkManager), bridge vlan add vid %[1]d dev %[2]s (by hand)", id, u.Name),
				"uplink %s is not in VLAN %d, so that guests in it would not reach the LAN", u.Name, id)
		}
	}
	return nil
}

// unused refuses a NIC that somebody uses. Routes are not among the facts: the
// engine looks for them. The kernel gives every link an address of fe80::/10.
func (u *Uplink) unused(nic linkspec.Link) error {
	if nic.Master != nil && *nic.Master != "" {
		return cnierr.New(cnierr.Config,
			"name the NIC that is on top (the bond, not its port), or take it off there: ip link set "+u.Name+" nomaster",
			"uplink %s is a port of %s", u.Name, *nic.Master)
	}
	for _, a := range nic.Addresses {
		if a.Reachable() {
			return cnierr.New(cnierr.Config,
				"for a NIC that the host uses itself, have its network manager make the bridge, with the address on it, and join that with \"bridgeMode\": \"existing\"; for one that is the guests' alone, take the address off: Unmanaged=yes under [Link] in its .network file (systemd-networkd), nmcli device set "+u.Name+" managed no (NetworkManager), then ip address flush dev "+u.Name,
				"uplink %s carries %s, which nobody would reach any more once it is a port of bridge %s", u.Name, a.Prefix, u.Bridge)
		}
	}
	return nil
}

// claimed is what of the uplink the engine looks at before anything is made.
func claimed(uplink *linkspec.Link) []linkspec.Link {
	if uplink == nil || uplink.Role != linkspec.Lent {
		return nil
	}
	return []linkspec.Link{{Role: linkspec.Lent, Name: uplink.Name}}
}

// uplink declares the NIC, nil for none.
func (p *bridgePlan) uplink(f Facts, tap string) (*linkspec.Link, error) {
	u := uplinkOf(p.conf)
	if u == nil {
		return nil, nil
	}
	if nic := f[u.Name]; nic.Name == tap {
		return nil, cnierr.New(cnierr.Config, "name a NIC that leads out of the host", "uplink %s is the tap of this guest", u.Name)
	}
	want, err := u.Declare(f)
	return &want, err
}

// promisedUplink is what ADD brought about, whoever did it. One that is lent has no
// address that the host would miss.
func (p *bridgePlan) promisedUplink(f Facts) []linkspec.Link {
	u := uplinkOf(p.conf)
	if u == nil {
		return nil
	}
	want := linkspec.Link{Role: linkspec.Joined, Name: u.Name, Master: &u.Bridge, Up: new(true), InVLANs: u.VLANs}
	if lent, _ := u.lent(f); lent == u.Name {
		for _, a := range f[u.Name].Addresses {
			if a.Reachable() {
				want.NoAddresses = append(want.NoAddresses, a.Prefix)
			}
		}
	}
	return []linkspec.Link{want}
}
