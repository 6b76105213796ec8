package config

import (
	"net"
	"strings"
	"unicode"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Where the tap goes.
const (
	PlacementHost  = "host"  // the host's namespace, directly on the bridge
	PlacementNetns = "netns" // the VMM's namespace
)

// Tap is the configuration of microvm-tap.
type Tap struct {
	Common
	Placement string // PlacementHost or PlacementNetns
	TapName   string // "" to derive it

	// Owner and Group are who may open the tap; both must match where both are
	// given. Owner is root unless somebody is named: it is nil, which means
	// anybody in the group, only where a group is given alone.
	Owner *ID
	Group *ID

	MultiQueue     bool
	MTU            int              // bytes; 0 for the bridge's
	MAC            net.HardwareAddr // the guest's; nil to derive it
	SELinuxContext string           // "" for none
	TxQueueLen     int              // packets; 0 for the kernel's default
}

// ParseTap reads the configuration of microvm-tap for ADD, CHECK and STATUS.
func ParseTap(stdin []byte, rt Runtime) (*Tap, error) {
	r, common, args := open(stdin, rt, tapPlugin, bridgePlugin)
	capabilities := r.capabilities(false)
	t := &Tap{
		Common:         common,
		Placement:      r.placement(),
		TapName:        args.TapName,
		Owner:          r.id("owner"),
		Group:          r.id("group"),
		MultiQueue:     r.flag("multiQueue"),
		MTU:            r.mtu(),
		MAC:            r.mac(capabilities, args, r.text("mac")),
		SELinuxContext: r.selinuxContext(),
		TxQueueLen:     int(r.number("txQueueLen", "packets", 1, maxTxQueueLen)),
	}
	if r.err != nil {
		return nil, r.err
	}
	t.setOwner(args)
	return t, nil
}

func (t *Tap) setOwner(args Args) {
	if args.TapOwner != nil {
		t.Owner = args.TapOwner
	}
	if args.TapGroup != nil {
		t.Group = args.TapGroup
	}
	if t.Owner == nil && t.Group == nil {
		t.Owner = &ID{} // root: a tap without either is anybody's
	}
}

func (r *reader) placement() string {
	if !r.has("placement") {
		return PlacementHost
	}
	p := r.text("placement")
	if p != PlacementHost && p != PlacementNetns {
		r.fail(cnierr.New(cnierr.Config, `say "host" (or remove the key) for a VMM that runs in the host's namespace, "netns" for one that runs in CNI_NETNS`,
			"placement: %s is not a placement", quote(p)))
	}
	return p
}

// mtu reads "mtu"; 0 means not given, as in the upstream plugins.
func (r *reader) mtu() int {
	if string(r.vals["mtu"]) == "0" {
		return 0
	}
	return int(r.number("mtu", "bytes", minMTU, maxMTU))
}

func (r *reader) selinuxContext() string {
	s := r.text("selinuxContext")
	if strings.ContainsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) }) {
		r.fail(cnierr.New(cnierr.Config, "give a context such as system_u:system_r:svirt_t:s0",
			"selinuxContext: %s contains white space or a character that does not print", quote(s)))
	}
	return s
}
