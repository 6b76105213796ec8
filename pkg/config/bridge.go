package config

import (
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// defaultBridge is the upstream bridge plugin's.
const defaultBridge = "cni0"

// Bridge is the configuration of microvm-bridge.
type Bridge struct {
	Common
	Bridge   string // name of the bridge
	Existing bool   // somebody else's bridge: only join it
	Uplink   string // name of the NIC of the host that is to be its port; "" for none

	IsGateway        bool
	IsDefaultGateway bool // implies IsGateway
	ForceAddress     bool
	EnableDAD        bool // for the gateway's IPv6 address

	IPMasq   bool // hide the guests' addresses from the world beyond the network
	IPTables bool // with iptables, not nftables

	MTU           int // bytes; 0 if not given
	HairpinMode   bool
	PromiscMode   bool
	PortIsolation bool
	Guard         Guard

	Bandwidth Bandwidth // of the guest
	VLAN      int       // that the guest is in without knowing; 0 for none
	Trunk     []int     // VLANs that the guest tags itself, in order
	// PreserveDefaultVLAN keeps the guest in the bridge's default VLAN too, as far
	// as hearing goes; it means nothing without VLAN and Trunk.
	PreserveDefaultVLAN bool

	MAC net.HardwareAddr // the guest's, as the runtime gave it; nil if it did not

	IPAM *IPAM     // nil for a network without addresses
	DNS  types.DNS // overrules what the IPAM plugin says, unless empty

	// DelegateArgs are the CNI_ARGS for the IPAM plugin.
	DelegateArgs string
}

// ParseBridge reads the configuration of microvm-bridge for ADD, CHECK and
// STATUS. That there is a prevResult is not its concern.
func ParseBridge(stdin []byte, rt Runtime) (*Bridge, error) {
	r, common, args := open(stdin, rt, bridgePlugin, tapPlugin)
	capabilities := r.capabilities(true)
	b := &Bridge{
		Common:           common,
		Existing:         r.existing(),
		IsGateway:        r.flag("isGateway"),
		IsDefaultGateway: r.flag("isDefaultGateway"),
		ForceAddress:     r.flag("forceAddress"),
		EnableDAD:        r.flag("enabledad"),
		IPMasq:           r.flag("ipMasq"),
		IPTables:         r.iptables(),
		MTU:              r.mtu(),
		HairpinMode:      r.flag("hairpinMode"),
		PromiscMode:      r.flag("promiscMode"),
		PortIsolation:    r.flag("portIsolation"),
		Bandwidth:        r.bandwidth(),
		VLAN:             r.vlan("vlan", 0),
		Trunk:            r.trunk(),
		Guard:            r.guard(),
		MAC:              r.mac(capabilities, args, ""),
		IPAM:             r.ipam(capabilities, args),
		DNS:              r.dns(),
		DelegateArgs:     args.ForDelegate,
	}
	b.PreserveDefaultVLAN = r.flag("preserveDefaultVlan")
	b.IsGateway = b.IsGateway || b.IsDefaultGateway
	b.Bridge = r.bridge(b.Existing)
	b.Uplink = r.uplink(b.Bridge)
	r.fail(b.check(r))
	if r.err != nil {
		return nil, r.err
	}
	return b, nil
}

func (r *reader) existing() bool {
	if !r.has("bridgeMode") {
		return false
	}
	mode := r.text("bridgeMode")
	if mode != "create" && mode != "existing" {
		r.fail(cnierr.New(cnierr.Config, `say "create" to have the bridge made, or "existing" to join one that is somebody else's`,
			"bridgeMode: %s is not a mode", quote(mode)))
	}
	return mode == "existing"
}

// iptables reads "ipMasqBackend".
func (r *reader) iptables() bool {
	backend := r.text("ipMasqBackend")
	if !slices.Contains([]string{"", "nftables", "iptables"}, backend) {
		r.fail(cnierr.New(cnierr.Config, `say "nftables" (or remove the key), or "iptables" for what builds on the chains of the upstream plugins`,
			"ipMasqBackend: %s is not a backend", quote(backend)))
	}
	return backend == "iptables"
}

func (r *reader) bridge(existing bool) string {
	if r.has("bridge") {
		name := r.text("bridge")
		r.fail(checkName(cnierr.Config, "bridge", name))
		return name
	}
	if existing {
		r.fail(cnierr.New(cnierr.Config, `name the bridge to join, as in "bridge": "br0"`, `bridge is missing, with "bridgeMode": "existing"`))
	}
	return defaultBridge
}

// check refuses what makes no sense together.
func (b *Bridge) check(r *reader) error {
	if b.Existing {
		for _, key := range []string{"isGateway", "isDefaultGateway", "forceAddress", "promiscMode"} {
			if r.flag(key) {
				return cnierr.New(cnierr.Config,
					"remove the key and configure the bridge where it is made (systemd-networkd, NixOS ...), or remove bridgeMode to have it made and configured here",
					`%s: a bridge with "bridgeMode": "existing" is never configured`, key)
			}
		}
	}
	if b.IsGateway && b.IPAM == nil {
		return cnierr.New(cnierr.Config, "add an ipam section, or remove isGateway and isDefaultGateway",
			"isGateway: without ipam there is no address to make a gateway's from")
	}
	if b.IPMasq && b.IPAM == nil {
		return cnierr.New(cnierr.Config, "add an ipam section, or remove ipMasq",
			"ipMasq: without ipam there is no address to masquerade")
	}
	if b.HairpinMode && b.PromiscMode {
		return cnierr.New(cnierr.Config, "remove one of the two", "hairpinMode and promiscMode exclude each other")
	}
	if b.MTU != 0 && b.MTU < minIPv6MTU && b.IPAM != nil && b.IPAM.Families.IPv6 {
		return cnierr.New(cnierr.Config, "give 1280 bytes or more, or no IPv6 range", "mtu: %d is too small for IPv6", b.MTU)
	}
	return nil
}

var dnsKeys = []string{"nameservers", "domain", "search", "options"}

func (r *reader) dns() types.DNS {
	d := r.object("dns")
	for _, key := range slices.Sorted(maps.Keys(d.vals)) {
		if !slices.Contains(dnsKeys, key) {
			advice := "remove the key; dns knows nameservers, domain, search, options"
			if near := nearest(key, dnsKeys); near != "" {
				advice = `did you mean "` + near + `"?`
			}
			d.fail(cnierr.New(cnierr.UnsupportedField, advice, "unknown key %s in dns with value %s", quote(key), show(d.vals[key])))
		}
	}
	dns := types.DNS{Nameservers: d.texts("nameservers"), Domain: d.text("domain"), Search: d.texts("search"), Options: d.texts("options")}
	for _, s := range dns.Nameservers {
		if addr, err := netip.ParseAddr(s); err != nil || addr.Zone() != "" {
			d.fail(cnierr.New(cnierr.Config, "give IP addresses", "dns.nameservers: %s is not an IP address", quote(s)))
		}
	}
	r.fail(d.err)
	return dns
}
