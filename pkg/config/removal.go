package config

import (
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// TapForRemoval reads of the configuration of microvm-tap what DEL and GC need:
// the network's name, and TapName and PrevResult if they can be used. Nothing
// else is filled in.
func TapForRemoval(stdin []byte, rt Runtime) (*Tap, error) {
	r, common, err := commonForRemoval(stdin)
	if err != nil {
		return nil, err
	}
	t := &Tap{Common: common, Placement: PlacementHost, TapName: argsForRemoval(rt.Args).TapName}
	if r.lenient("placement") == PlacementNetns {
		t.Placement = PlacementNetns
	}
	return t, nil
}

// BridgeForRemoval reads of the configuration of microvm-bridge what DEL and GC
// need: the network's name, the bridge's, bridgeMode, the VLAN, the IPAM plugin and its
// arguments, and PrevResult if it can be used. Bridge is empty where the
// configuration names none that could exist; Existing is true also in a mode
// that is not known, so that such a bridge is left alone. Nothing else is
// filled in.
func BridgeForRemoval(stdin []byte, rt Runtime) (*Bridge, error) {
	r, common, err := commonForRemoval(stdin)
	if err != nil {
		return nil, err
	}
	b := &Bridge{Common: common, DelegateArgs: argsForRemoval(rt.Args).ForDelegate}
	b.Existing = r.has("bridgeMode") && r.lenient("bridgeMode") != "create"
	b.IPTables = r.lenient("ipMasqBackend") == "iptables"
	b.VLAN = (&reader{vals: r.vals}).vlan("vlan", 0)
	b.Bridge = r.lenient("bridge")
	if !r.has("bridge") && !b.Existing {
		b.Bridge = defaultBridge
	}
	if checkName(cnierr.Config, "bridge", b.Bridge) != nil {
		b.Bridge = ""
	}
	b.IPAM, err = r.ipamForRemoval()
	return b, err
}

// commonForRemoval reads what identifies the attachment, which must be right,
// and takes the rest as far as it can be used.
func commonForRemoval(stdin []byte) (*reader, Common, error) {
	obj, err := parseObject(stdin)
	if err != nil {
		return nil, Common{}, err
	}
	r := &reader{vals: obj}
	c := Common{CNIVersion: r.lenient("cniVersion"), Network: r.text("name")}
	r.fail(checkNetwork(c.Network))
	if r.has("prevResult") {
		c.PrevResult, _ = decodeResult(c.CNIVersion, r.vals["prevResult"]) // nil if it is none
	}
	return r, c, r.err
}

// ipamForRemoval returns the IPAM plugin that holds the lease; nil if there can
// be none.
func (r *reader) ipamForRemoval() (*IPAM, error) {
	section := (&reader{vals: r.vals}).object("ipam")
	name := section.lenient("type")
	if name == "" || name == "dhcp" { // ADD never called it
		return nil, nil
	}
	if err := checkIPAMType(name); err != nil {
		return nil, err
	}
	return &IPAM{Type: name, Check: true}, nil
}

// lenient reads a string; "" if there is none, or something else.
func (r *reader) lenient(key string) string {
	return (&reader{vals: r.vals}).text(key)
}
