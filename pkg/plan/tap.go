package plan

import (
	"net"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/result"
)

const root = 0 // uid

type tapPlan struct {
	conf *config.Tap
	rt   config.Runtime
	att  attachment.Attachment

	name         string
	netns        string // that the tap is in, "" for the host's
	guest        net.HardwareAddr
	owner, group uint32
}

// Tap plans for microvm-tap. ownNetns tells that CNI_NETNS is the namespace
// that the plugin runs in.
func Tap(stdin []byte, rt config.Runtime, ownNetns bool, host Host) (Plan, error) {
	conf, err := config.ParseTap(stdin, rt)
	if err != nil {
		return nil, err
	}
	p := &tapPlan{conf: conf, rt: rt, att: identity(conf.Common, rt)}
	// With neither owner nor group anyone could attach to the tap; with both
	// set both must match, so that a group alone needs the owner to be unset.
	nobody := uint32(root)
	if conf.Group != nil {
		nobody = linkspec.NoID
	}
	if p.owner, err = number(conf.Owner, nobody, host.User); err != nil {
		return nil, err
	}
	if p.group, err = number(conf.Group, linkspec.NoID, host.Group); err != nil {
		return nil, err
	}
	p.name = p.att.TapName()
	switch {
	case conf.TapName != "":
		p.name = conf.TapName
	case ownNetns, conf.Placement == config.PlacementNetns:
		p.name = rt.IfName
	}
	if conf.Placement == config.PlacementNetns && !ownNetns {
		p.netns = rt.Netns
	}
	p.guest = conf.MAC
	if p.guest == nil {
		p.guest = p.att.GuestMAC()
	}
	return p, nil
}

// number is the id as a number, resolved on the host if it is a name.
func number(id *config.ID, none uint32, lookup func(string) (uint32, error)) (uint32, error) {
	switch {
	case id == nil:
		return none, nil
	case id.Name == "":
		return id.Number, nil
	default:
		return lookup(id.Name)
	}
}

func (p *tapPlan) Observe() []string {
	keys := []string{p.att.TapHandle()}
	if p.netns != "" {
		keys = append(keys, linkspec.Key(p.netns, p.att.TapHandle()))
	}
	return keys
}

func (p *tapPlan) Guard() linkspec.Guard { return linkspec.Guard{} }

func (p *tapPlan) Shared() bool { return false }

func (p *tapPlan) Delegate() *Delegate { return nil }

func (p *tapPlan) Attachment() attachment.Attachment { return p.att }

func (p *tapPlan) Repairs() bool { return p.conf.Repair }

func (p *tapPlan) Previous() *types100.Result { return p.conf.PrevResult }

func (p *tapPlan) Claim(f Facts) (linkspec.State, error) {
	for _, key := range p.Observe() {
		if tap, there := f[key]; there {
			return linkspec.State{}, alreadyThere(p.att, tap)
		}
	}
	return linkspec.State{}, nil
}

func alreadyThere(a attachment.Attachment, tap linkspec.Link) error {
	return cnierr.New(cnierr.Exists,
		"this guest NIC is attached already: DEL it before the next ADD, or use another CNI_IFNAME for a second NIC",
		"interface %s of container %s on network %s exists already: %s", a.IfName, a.ContainerID, a.Network, tap.Key())
}

func (p *tapPlan) Settle(Facts, *types100.Result) (linkspec.State, result.Answer, error) {
	return p.state(p.name, p.guest), result.Answer{
		Tap: p.name, TapNetns: p.netns, GuestMAC: p.guest, ContainerID: p.rt.ContainerID,
	}, nil
}

func (p *tapPlan) state(name string, guest net.HardwareAddr) linkspec.State {
	tap := linkspec.Link{
		Role: linkspec.Owned, Kind: linkspec.Tap, Name: name, Netns: p.netns, Context: p.conf.SELinuxContext,
		Alias:    new(attachment.Tag{Attachment: p.att, MTU: p.conf.MTU}.String()),
		AltNames: []string{p.att.TapHandle()},
		MAC:      attachment.TapMAC(guest),
		IPv6:     new(false), AcceptRA: new(false),
		Owner: &p.owner, Group: &p.group, MultiQueue: &p.conf.MultiQueue, Persist: new(true),
	}
	if p.netns != "" {
		tap.MAC = attachment.SplicedTapMAC(guest)
	}
	if p.conf.MTU != 0 {
		tap.MTU = &p.conf.MTU
	}
	if p.conf.TxQueueLen != 0 {
		tap.TxQueueLen = &p.conf.TxQueueLen
	}
	return linkspec.State{Links: []linkspec.Link{tap}}
}

// Promise takes the name and the guest's MAC from what ADD answered, not from
// arguments that the runtime may not repeat.
func (p *tapPlan) Promise(Facts) (linkspec.State, error) {
	nic, _ := guestOf(p.conf.PrevResult, p.rt.ContainerID)
	guest := parseMAC(nic)
	if nic == nil || guest == nil {
		return linkspec.State{}, noGuest(p.rt.ContainerID)
	}
	i := indexIn(p.conf.PrevResult, nic.Name, p.netns)
	if i < 0 {
		return linkspec.State{}, cnierr.New(cnierr.Config,
			"CHECK needs the result of ADD as prevResult; a plugin later in the chain must pass on the interfaces that it was given",
			"prevResult names no tap %s", linkspec.Key(p.netns, nic.Name))
	}
	promise := p.state(nic.Name, guest)
	if p.netns != "" { // where a plugin later in the chain, such as tuning, may change it
		promise.Links[0].MAC = parseMAC(p.conf.PrevResult.Interfaces[i])
	}
	return promise, nil
}

func noGuest(containerID string) error {
	return cnierr.New(cnierr.Config,
		"CHECK needs the result of ADD as prevResult; a plugin later in the chain must pass on the interfaces that it was given",
		"prevResult names no guest NIC of container %s", containerID)
}

// TapRemoval says what DEL and GC of microvm-tap remove.
func TapRemoval(stdin []byte, rt config.Runtime) (Removal, error) {
	conf, err := config.TapForRemoval(stdin, rt)
	if err != nil {
		return Removal{}, err
	}
	r := Removal{Attachment: identity(conf.Common, rt), Netns: rt.Netns}
	r.Names = names(conf.Common, rt, conf.TapName)
	return r, nil
}

// names is where the attachment's tap may be found.
func names(c config.Common, rt config.Runtime, tapName string) []string {
	var found []string
	if tapName != "" {
		found = append(found, tapName)
	}
	if nic, _ := guestOf(c.PrevResult, rt.ContainerID); nic != nil && nic.Name != "" {
		found = append(found, nic.Name)
	}
	if rt.IfName != "" {
		found = append(found, rt.IfName)
	}
	return found
}

// TapNeeds says what an ADD of microvm-tap would need.
func TapNeeds(stdin []byte, host Host) (Needs, error) {
	conf, err := config.ParseTap(stdin, config.Runtime{})
	if err != nil {
		return Needs{}, err
	}
	if _, err := number(conf.Owner, 0, host.User); err != nil {
		return Needs{}, err
	}
	if _, err := number(conf.Group, 0, host.Group); err != nil {
		return Needs{}, err
	}
	return Needs{Tun: true}, nil
}
