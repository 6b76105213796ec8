package plan

import (
	"net"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/result"
)

const defaultMTU = 1500 // bytes; of a bridge that nobody gave one

type bridgePlan struct {
	conf     *config.Bridge
	rt       config.Runtime
	att      attachment.Attachment
	ownNetns bool
	host     Host
}

// Bridge plans for microvm-bridge. ownNetns tells that CNI_NETNS is the
// namespace that the plugin runs in.
func Bridge(stdin []byte, rt config.Runtime, ownNetns bool, host Host) (Plan, error) {
	conf, err := config.ParseBridge(stdin, rt)
	if err != nil {
		return nil, err
	}
	return &bridgePlan{conf: conf, rt: rt, att: identity(conf.Common, rt), ownNetns: ownNetns, host: host}, nil
}

// Shared is true for a bridge that is only joined, too: the first port of a
// bridge without a MAC address of its own changes it for a moment.
func (p *bridgePlan) Shared() bool { return true }

func (p *bridgePlan) Attachment() attachment.Attachment { return p.att }

func (p *bridgePlan) Repairs() bool { return p.conf.Repair }

func (p *bridgePlan) Previous() *types100.Result { return p.conf.PrevResult }

func (p *bridgePlan) Delegate() *Delegate { return delegate(p.conf.IPAM, p.conf.DelegateArgs) }

func (p *bridgePlan) Observe() []string {
	keys := slices.Concat([]string{p.conf.Bridge, p.att.PortHandle()}, uplinkOf(p.conf).Observe(), p.devices(), p.candidates())
	if p.hasGatewayDevice() {
		keys = append(keys, p.gatewayName())
	}
	if slices.ContainsFunc(keys, func(key string) bool { return linkspec.SplitKey(key).Netns != "" }) {
		keys = append(keys, p.att.PortName(), p.att.UpperName())
	}
	return keys
}

// Claim refuses what cannot work, and marks the tap as held: from now on GC
// knows that addresses may hang on it.
func (p *bridgePlan) Claim(f Facts) (linkspec.State, error) {
	if held, there := f[p.att.PortHandle()]; there {
		return linkspec.State{}, alreadyThere(p.att, held)
	}
	tap, err := p.tap(f)
	if err != nil {
		return linkspec.State{}, err
	}
	if tap.Master != nil && *tap.Master != "" {
		return linkspec.State{}, cnierr.New(cnierr.Exists,
			"take it off there (ip link set "+tap.Name+" nomaster); if a network manager put it there, exclude "+attachment.TapPrefix+"* from its match rules",
			"tap %s is a port of %s already", tap.Name, *tap.Master)
	}
	if attachment.HasPortHandle(tap.AltNames) {
		return linkspec.State{}, cnierr.New(cnierr.Exists,
			"DEL the attachment that holds it (ip link show dev "+tap.Name+" tells), or make another tap for this one",
			"tap %s is held for another attachment", tap.Name)
	}
	if away(tap) && tap.Name == p.conf.Bridge {
		return linkspec.State{}, cnierr.New(cnierr.Config, "give the bridge another name, or the tap: CNI_IFNAME, or CNI_ARGS TAP_NAME",
			"the tap and the bridge are both called %s, and runtimes find the tap by its name in the result", tap.Name)
	}
	if _, _, err = p.links(f, tap, nil); err != nil {
		return linkspec.State{}, err
	}
	uplink, err := p.uplink(f, tap.Key())
	if err != nil {
		return linkspec.State{}, err
	}
	if _, err := p.rules(f, p.guestMAC(), nil); err != nil {
		return linkspec.State{}, err
	}
	if away(tap) {
		return p.claimPort(f, tap, uplink)
	}
	return linkspec.State{Filters: p.filters(), Links: append(claimed(uplink), linkspec.Link{
		Role: linkspec.Adopted, Kind: linkspec.Tap, Name: tap.Name, AltNames: []string{p.att.PortHandle()},
	})}, nil
}

// Settle returns the state with the delegate's addresses in it.
func (p *bridgePlan) Settle(f Facts, ipam *types100.Result) (linkspec.State, result.Answer, error) {
	tap, err := p.tap(f)
	if err != nil {
		return linkspec.State{}, result.Answer{}, err
	}
	var guest addressing
	if p.conf.IPAM != nil {
		if guest, err = p.addressing(ipam); err != nil {
			return linkspec.State{}, result.Answer{}, err
		}
	}
	bridges, port, err := p.links(f, tap, guest.gateways)
	if err != nil {
		return linkspec.State{}, result.Answer{}, err
	}
	mac := p.guestMAC()
	if err = station(&port, tap, mac); err != nil {
		return linkspec.State{}, result.Answer{}, err
	}
	if err = p.guard(f, &port, mac, guest.ips); err != nil {
		return linkspec.State{}, result.Answer{}, err
	}
	answer := result.Answer{
		Bridge: p.conf.Bridge, Tap: tap.Name, GuestMAC: mac, ContainerID: p.att.ContainerID,
		IfName: p.rt.IfName, Netns: p.rt.Netns, IPs: guest.ips, Routes: guest.routes, DNS: guest.dns,
	}
	if !p.conf.DNS.IsEmpty() {
		answer.DNS = p.conf.DNS
	}
	if p.ownNetns { // the tap and CNI_NETNS are one place: there is no second name
		answer.Netns = ""
	}
	if away(tap) {
		answer.TapNetns, answer.Port = tap.Netns, p.att.PortName()
	}
	uplink, err := p.uplink(f, tap.Key())
	if err != nil {
		return linkspec.State{}, result.Answer{}, err
	}
	if uplink != nil {
		bridges = slices.Insert(bridges, 1, *uplink)
	}
	links := slices.Concat(bridges, p.shapers(), p.members(f, port, tap.Netns))
	state := linkspec.State{Links: links, Sysctls: forwarding(guest.gateways), Filters: p.filters()}
	state.Masquerade, err = p.masquerade(guest.ips)
	return state, answer, err
}

// guestMAC is what the runtime asked for here, else what the tap's plugin said,
// else derived.
func (p *bridgePlan) guestMAC() net.HardwareAddr {
	if p.conf.MAC != nil {
		return p.conf.MAC
	}
	nic, _ := guestOf(p.conf.PrevResult, p.att.ContainerID)
	if mac := parseMAC(nic); mac != nil {
		return mac
	}
	return p.att.GuestMAC()
}

// links declares the bridge, the gateway if that is a device of its own, and the
// port, as far as the configuration, the host and the gateways decide them.
func (p *bridgePlan) links(f Facts, tap linkspec.Link, gateways []gateway) (bridges []linkspec.Link, port linkspec.Link, err error) {
	found, there := f[p.conf.Bridge]
	if there && found.Kind != linkspec.Bridge {
		return nil, port, cnierr.New(cnierr.Config, "give \"bridge\" the name of a bridge, or a name that is not taken",
			"%s is not a bridge but a %s device", p.conf.Bridge, found.Kind)
	}
	if there && found.Name != p.conf.Bridge {
		return nil, port, cnierr.New(cnierr.Config, "write \"bridge\": \""+found.Name+"\"",
			"%s is another name of bridge %s, which goes by its own here", p.conf.Bridge, found.Name)
	}
	bridge := linkspec.Link{Kind: linkspec.Bridge, Name: p.conf.Bridge, Up: new(true)}
	switch {
	case p.conf.Existing && !there:
		return nil, port, missingBridge(p.conf.Bridge)
	case p.conf.Existing && found.Up != nil && !*found.Up:
		return nil, port, cnierr.New(cnierr.Config, "set it up, as whoever made it does not: ip link set "+p.conf.Bridge+" up", "bridge %s is down", p.conf.Bridge)
	case p.conf.Existing:
		bridge.Role, bridge.MAC, bridge.MTU = linkspec.Joined, found.MAC, found.MTU
	case there && !ours(found):
		bridge.Role, bridge.MAC, bridge.MTU = linkspec.Shared, found.MAC, found.MTU
		if p.conf.PromiscMode {
			bridge.Promisc = new(true)
		}
	default:
		p.own(&bridge, found)
	}
	if there && p.conf.MTU != 0 && !p.conf.Existing && *found.MTU != p.conf.MTU {
		return nil, port, cnierr.New(cnierr.Config,
			"give every network of one bridge the same \"mtu\", or leave it out; to change a bridge that stands: ip link set "+p.conf.Bridge+" mtu N, then the same \"mtu\" in the conflist",
			"bridge %s has an MTU of %d, not of %d", p.conf.Bridge, *found.MTU, p.conf.MTU)
	}
	if err = p.checkFiltering(found); err != nil {
		return nil, port, err
	}
	bridge.VLANFiltering = p.filtering()
	if bridges, err = p.gatewayLinks(f, bridge, gateways); err != nil {
		return nil, port, err
	}
	if port, err = p.port(tap, *bridge.MTU); err != nil {
		return nil, port, err
	}
	port.Shaping, port.VLANs = p.shaping(*port.MTU), p.vlans(found)
	return bridges, port, p.checkLimits(f, *port.MTU)
}

// ours tells whether a bridge was made by this software.
func ours(l linkspec.Link) bool { return l.Alias != nil && *l.Alias == attachment.BridgeTag }

// own declares what only a bridge that this software makes is held to.
func (p *bridgePlan) own(bridge *linkspec.Link, found linkspec.Link) {
	bridge.Role = linkspec.Shared
	bridge.Alias = new(attachment.BridgeTag)
	bridge.Promisc = &p.conf.PromiscMode
	bridge.AcceptRA, bridge.ARPIgnore = new(false), new(true)
	switch {
	case found.MTU != nil:
		bridge.MTU = found.MTU
	case p.conf.MTU != 0:
		bridge.MTU = &p.conf.MTU
	default:
		bridge.MTU = new(defaultMTU)
	}
}

func missingBridge(name string) error {
	return cnierr.New(cnierr.Config,
		"with \"bridgeMode\": \"existing\" the host's network manager makes the bridge (ip link add "+name+" type bridge && ip link set "+name+" up, to try); with \"create\" the plugin makes it",
		"bridge %s does not exist", name)
}

// port declares the tap as a port. Its MTU is the one asked for by name, else
// the bridge's.
func (p *bridgePlan) port(tap linkspec.Link, bridgeMTU int) (linkspec.Link, error) {
	port := linkspec.Link{
		Role: linkspec.Adopted, Kind: linkspec.Tap, Name: tap.Name,
		AltNames: []string{p.att.PortHandle()},
		Master:   &p.conf.Bridge, Hairpin: &p.conf.HairpinMode, Isolated: new(p.isolated()),
		Disabled: new(false), IPv6: new(false), AcceptRA: new(false), Up: new(true),
	}
	mtu := bridgeMTU
	tag, own := attachment.TagOf(tap.Alias)
	switch {
	case own && tag.MTU != 0:
		mtu = tag.MTU
	case p.conf.MTU != 0:
		mtu = p.conf.MTU
	case !own && tap.MTU != nil:
		mtu = *tap.MTU // another plugin's choice
	}
	if mtu > bridgeMTU {
		return port, cnierr.New(cnierr.Config,
			"give the tap the bridge's MTU by leaving \"mtu\" out of the tap's plugin, or raise the bridge's",
			"an MTU of %d for tap %s is more than the %d of bridge %s", mtu, tap.Name, bridgeMTU, p.conf.Bridge)
	}
	port.MTU = &mtu
	return port, nil
}

// BridgeRemoval says what DEL and GC of microvm-bridge remove.
func BridgeRemoval(stdin []byte, rt config.Runtime) (Removal, error) {
	conf, err := config.BridgeForRemoval(stdin, rt)
	if err != nil {
		return Removal{}, err
	}
	r := Removal{Attachment: identity(conf.Common, rt), Netns: rt.Netns, Port: true, Delegate: delegate(conf.IPAM, conf.DelegateArgs)}
	r.Names = names(conf.Common, rt, "")
	r.Masquerades, r.Joined = removals(conf, rt), conf.Bridge
	if !conf.Existing {
		r.Bridge = conf.Bridge
	}
	if conf.VLAN != 0 && conf.Bridge != "" {
		r.Gateway = attachment.GatewayName(conf.Bridge, conf.VLAN)
	}
	return r, nil
}

// fits refuses what no guest could be given.
func (p *bridgePlan) fits(f Facts) error {
	if _, _, err := p.links(f, linkspec.Link{Kind: linkspec.Tap}, nil); err != nil {
		return err
	}
	if err := p.checkGateway(f); err != nil {
		return err
	}
	_, err := p.rules(f, p.att.GuestMAC(), nil)
	return err
}

// BridgeNeeds says what an ADD of microvm-bridge would need.
func BridgeNeeds(stdin []byte, _ Host) (Needs, error) {
	conf, err := config.ParseBridge(stdin, config.Runtime{})
	if err != nil {
		return Needs{}, err
	}
	if err := limits(conf.Bandwidth).Check(conf.MTU); err != nil {
		return Needs{}, err
	}
	needs := Needs{Uplink: uplinkOf(conf), Bridge: conf.Bridge, MustExist: conf.Existing, Delegate: delegate(conf.IPAM, conf.DelegateArgs)}
	p := &bridgePlan{conf: conf}
	if err := p.checkGuard(); err != nil {
		return Needs{}, err
	}
	needs.Observe, needs.Fits = []string{conf.Bridge}, p.fits
	if p.hasGatewayDevice() {
		needs.Observe = append(needs.Observe, p.gatewayName())
	}
	if conf.IsGateway {
		needs.Sysctls = forwarding([]gateway{{prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}})
	}
	needs.VLANs = conf.VLAN != 0 || conf.Trunk != nil
	needs.Guard, needs.Unguarded = !conf.Guard.Off, conf.Guard.Off
	if needs.Guard && conf.Guard.HostAccess != config.HostAll {
		needs.Closed = conf.Bridge
	}
	if conf.IPMasq {
		needs.Masquerade = backend(conf)
	}
	return needs, nil
}
