// Package attachment names things after the guest NIC that they exist for.
//
// An attachment is one guest NIC on one network: the network's name, the
// runtime's container ID and the interface name. All that the plugins make
// carries a name derived from it, and a tag that spells it out, so that no
// state file is needed: every process finds what another one made, and nobody
// else's device is ever mistaken for ours.
package attachment

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"net"
	"strconv"
	"strings"
)

const (
	// MaxName is the longest name of a network device, in bytes (IFNAMSIZ less
	// the terminating zero, include/uapi/linux/if.h).
	MaxName = 15

	// TapPrefix begins the derived name of every tap. It is not "vt-", which a
	// network file shipped with systemd matches.
	TapPrefix = "mvt-"

	// maxTag is the longest interface alias, in bytes (IFALIASZ less the
	// terminating zero).
	maxTag = 255

	// gatewayPrefix begins a derived name that its bridge's has no room in.
	gatewayPrefix = "mvg-"

	tagPrefix    = "microvm-cni:"
	mtuMark      = " mtu "
	shortcutMark = " shortcut"
	digestMark   = "sha256:"
	tapHandle    = "microvm-tap."
	portHandle   = "microvm-bridge."
	netDigits    = 10 // base32 digits of the network's hash in a handle: 50 bits
	nameDigits   = 11 // base32 digits in a derived device name: 55 bits
	handleDigits = 26 // base32 digits of the attachment's hash in a handle: 130 bits
)

// Attachment identifies one guest NIC on one network.
type Attachment struct {
	Network     string // "name" of the network configuration
	ContainerID string // CNI_CONTAINERID
	IfName      string // CNI_IFNAME
}

// TapName is the derived name of the attachment's tap: TapPrefix and a hash,
// MaxName bytes long.
func (a Attachment) TapName() string {
	return TapPrefix + a.digest("tap")[:nameDigits]
}

// Devices are the derived names of the ifb devices that limit the frames to the
// attachment's guest ("mvd-": down) and from it ("mvu-": up).
func (a Attachment) Devices() (toGuest, fromGuest string) {
	return "mvd-" + a.digest("down")[:nameDigits], "mvu-" + a.digest("up")[:nameDigits]
}

// GuestMAC is the derived MAC address of the guest's NIC: unicast, locally
// administered, the same each time the attachment is made.
func (a Attachment) GuestMAC() net.HardwareAddr {
	sum := a.sum("mac")
	return net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// TapHandle is the alternative name by which the attachment's own tap is found
// whatever its name is. It is longer than any device name, so that it cannot
// be one, and it survives a rename.
func (a Attachment) TapHandle() string { return a.handle(tapHandle) }

// PortHandle is the alternative name that the bridge plugin puts on a port that
// it joined to a bridge for this attachment, whoever made the device.
func (a Attachment) PortHandle() string { return a.handle(portHandle) }

// PortHandlePrefix begins the PortHandle of every attachment of the network.
func PortHandlePrefix(network string) string {
	return portHandle + encode([]byte(network), "network")[:netDigits] + "."
}

// TapHandlePrefix begins the TapHandle of every attachment of the network.
func TapHandlePrefix(network string) string {
	return tapHandle + encode([]byte(network), "network")[:netDigits] + "."
}

// IsTapHandle tells whether the alternative name is the TapHandle of an attachment
// of whatever network.
func IsTapHandle(name string) bool { return strings.HasPrefix(name, tapHandle) }

// HasPortHandle tells whether one of the alternative names says that the
// bridge plugin holds the device as a port, of whatever network.
func HasPortHandle(altNames []string) bool {
	for _, n := range altNames {
		if strings.HasPrefix(n, portHandle) {
			return true
		}
	}
	return false
}

func (a Attachment) handle(prefix string) string {
	return prefix + encode([]byte(a.Network), "network")[:netDigits] + "." + a.digest("handle")[:handleDigits]
}

// Tag is what the interface alias of an owned device says: which attachment it
// is for, and, when the MTU was asked for by name, that it was.
type Tag struct {
	Attachment
	MTU int // bytes; 0 when the MTU follows the bridge
	// Shortcut tells of a port that its guest was promised a shortcut.
	Shortcut bool
}

// String is the alias: "microvm-cni:network/container ID/interface", followed
// by " mtu N" where the MTU is fixed, and by " shortcut" where there is to be one. Parts that do not fit into an alias are
// replaced by their SHA-256.
func (t Tag) String() string {
	suffix := ""
	if t.MTU != 0 {
		suffix = mtuMark + strconv.Itoa(t.MTU)
	}
	if t.Shortcut {
		suffix += shortcutMark
	}
	tag := tagPrefix + t.Network + "/" + t.ContainerID + "/" + t.IfName + suffix
	if len(tag) <= maxTag {
		return tag
	}
	tag = tagPrefix + t.Network + "/" + shorten(t.ContainerID) + "/" + t.IfName + suffix
	if len(tag) <= maxTag {
		return tag
	}
	return tagPrefix + shorten(t.Network) + "/" + shorten(t.ContainerID) + "/" + t.IfName + suffix
}

// TagOf returns what an interface alias says, of a link that may have none.
func TagOf(alias *string) (Tag, bool) {
	if alias == nil {
		return Tag{}, false
	}
	return ParseTag(*alias)
}

// ParseTag returns what an interface alias says, and whether it is a tag at
// all. Parts that String had to shorten come back shortened: see Exact, Names
// and OnNetwork.
func ParseTag(alias string) (Tag, bool) {
	rest, ok := strings.CutPrefix(alias, tagPrefix)
	if !ok {
		return Tag{}, false
	}
	var t Tag
	rest, t.Shortcut = strings.CutSuffix(rest, shortcutMark)
	if names, mtu, fixed := strings.Cut(rest, mtuMark); fixed {
		n, err := strconv.Atoi(mtu)
		if err != nil || n <= 0 {
			return Tag{}, false
		}
		rest, t.MTU = names, n
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return Tag{}, false
	}
	t.Attachment = Attachment{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}
	return t, true
}

// Names tells whether the tag is that of the attachment, spelled out or shortened.
func (t Tag) Names(a Attachment) bool {
	return t.IfName == a.IfName &&
		(t.Network == a.Network || t.Network == shorten(a.Network)) &&
		(t.ContainerID == a.ContainerID || t.ContainerID == shorten(a.ContainerID))
}

// AsTagged returns what a tag that Names the attachment may say: its parts, spelled
// out or shortened.
func AsTagged(a Attachment) []Attachment {
	short := Attachment{Network: a.Network, ContainerID: shorten(a.ContainerID), IfName: a.IfName}
	shorter := short
	shorter.Network = shorten(a.Network)
	return []Attachment{a, short, shorter}
}

// Exact tells whether the tag spells the container ID out, so that a delegate
// can be called for it.
func (t Tag) Exact() bool { return !strings.HasPrefix(t.ContainerID, digestMark) }

// OnNetwork tells whether the tag is of the network of that name.
func (t Tag) OnNetwork(network string) bool {
	return t.Network == network || t.Network == shorten(network)
}

// BridgeTag is the interface alias of a bridge that the bridge plugin made, as
// opposed to one that it found: only such a bridge is ever removed.
const BridgeTag = tagPrefix + "bridge"

// GatewayTag is the interface alias of a VLAN device that the bridge plugin made
// as the gateway of one VLAN of a bridge: only such a device is ever removed.
const GatewayTag = tagPrefix + "gateway"

// GatewayName is the name of the device with the gateway's address in a VLAN of
// a bridge: BRIDGE.VLAN, or a hash of both where that is too long.
func GatewayName(bridge string, vlan int) string {
	name := bridge + "." + strconv.Itoa(vlan)
	if len(name) <= MaxName {
		return name
	}
	return gatewayPrefix + encode([]byte(name), "gateway")[:nameDigits]
}

// TapMAC is the MAC address of the host's side of a tap, given the guest's. A
// first byte of 0xfe keeps it unicast, apart from the guest's own address, and
// higher than what a bridge would pick as its own.
func TapMAC(guest net.HardwareAddr) net.HardwareAddr {
	mac := append(net.HardwareAddr(nil), guest...)
	mac[0] = 0xfe
	return mac
}

// sum hashes the attachment's parts, set apart from one another by their
// lengths' place in the text: no part can hold a zero byte.
func (a Attachment) sum(purpose string) [sha256.Size]byte {
	return sha256.Sum256([]byte(purpose + "\x00" + a.Network + "\x00" + a.ContainerID + "\x00" + a.IfName))
}

func (a Attachment) digest(purpose string) string {
	sum := a.sum(purpose)
	return lowerBase32.EncodeToString(sum[:])
}

func encode(b []byte, purpose string) string {
	sum := sha256.Sum256(append([]byte(purpose+"\x00"), b...))
	return lowerBase32.EncodeToString(sum[:])
}

func shorten(s string) string {
	sum := sha256.Sum256([]byte(s))
	return digestMark + hex.EncodeToString(sum[:])
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
