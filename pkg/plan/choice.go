package plan

import (
	"bytes"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// candidates are the interfaces of prevResult that are in the host's namespace or
// in CNI_NETNS, a tap among them, by key.
func (p *bridgePlan) candidates() []string {
	var keys []string
	if p.conf.PrevResult == nil {
		return nil
	}
	for _, in := range p.conf.PrevResult.Interfaces {
		if key := p.keyOf(in); key != "" && key != p.conf.Bridge && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// keyOf is the key of an interface in the host's namespace or in CNI_NETNS, "" for
// any other.
func (p *bridgePlan) keyOf(in *types100.Interface) string {
	switch {
	case in.Sandbox == "" || p.ownNetns && in.Sandbox == p.rt.Netns:
		return in.Name
	case in.Sandbox == p.rt.Netns:
		return linkspec.Key(p.rt.Netns, in.Name)
	}
	return ""
}

// tap picks the tap out of prevResult: the attachment's own, else the only one.
func (p *bridgePlan) tap(f Facts) (linkspec.Link, error) {
	if p.conf.PrevResult == nil {
		return linkspec.Link{}, cnierr.New(cnierr.Config,
			"list a plugin that makes a tap before microvm-bridge in the conflist: { \"type\": \"microvm-tap\" }",
			"microvm-bridge was called without prevResult: there is no tap to put on bridge %s", p.conf.Bridge)
	}
	var taps []linkspec.Link
	for _, key := range p.candidates() {
		l, there := f[key]
		if !there || l.Kind != linkspec.Tap {
			continue
		}
		if slices.Contains(l.AltNames, p.att.TapHandle()) {
			return l, nil
		}
		taps = append(taps, l)
	}
	switch len(taps) {
	case 1:
		return taps[0], p.checkOther(taps[0])
	case 0:
		if f[p.conf.Bridge].Kind == linkspec.Tap {
			return linkspec.Link{}, cnierr.New(cnierr.Config, "give the tap another name, or the bridge (`bridge` in the conflist)",
				"tap %s has the name of the bridge that it is to join", p.conf.Bridge)
		}
		return linkspec.Link{}, cnierr.New(cnierr.Config,
			"microvm-bridge joins a tap that prevResult lists, with an empty sandbox if it is on the host, or with CNI_NETNS: put microvm-tap before it in the conflist",
			"prevResult names no tap device that exists on the host or in CNI_NETNS (it names: %s)", orNothing(p.candidates()))
	default:
		return linkspec.Link{}, cnierr.New(cnierr.Config,
			"leave only one plugin that makes a tap in the conflist, or use microvm-tap, whose tap is recognised among others",
			"prevResult names %d taps, and none of them is marked as that of container %s", len(taps), p.att.ContainerID)
	}
}

// checkOther refuses a tap that is not marked as the attachment's own unless it is
// what an earlier plugin said that it made: by now somebody else's may have the name.
func (p *bridgePlan) checkOther(tap linkspec.Link) error {
	tag, tagged := attachment.TagOf(tap.Alias)
	marked := slices.ContainsFunc(tap.AltNames, attachment.IsTapHandle)
	if marked || tagged && !tag.Names(p.att) {
		whose := "another attachment"
		if tagged {
			whose = "container " + tag.ContainerID + " on network " + tag.Network
		}
		return cnierr.New(cnierr.Exists, "each guest needs a tap of its own: have the plugin before microvm-bridge make one, or DEL the attachment that has this one",
			"tap %s is that of %s", tap.Key(), whose)
	}
	for _, in := range p.conf.PrevResult.Interfaces {
		if key := p.keyOf(in); key == "" || linkspec.SplitKey(key).Netns != tap.Netns {
			continue
		}
		mac := parseMAC(in)
		switch {
		case slices.Contains(tap.AltNames, in.Name):
			return cnierr.New(cnierr.Config, "have the plugin before microvm-bridge name the tap "+tap.Name, "%s in prevResult is another name of tap %s, which goes by its own here", in.Name, tap.Key())
		case in.Name == tap.Name && mac != nil && !bytes.Equal(mac, tap.MAC):
			return cnierr.New(cnierr.Config, "somebody replaced the device, or the network namespace: DEL the attachment, then ADD it again",
				"tap %s has the MAC address %s, prevResult says %s: it is not the tap that was made", tap.Key(), tap.MAC, mac)
		}
	}
	return nil
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
