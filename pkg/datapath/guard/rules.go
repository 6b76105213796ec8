package guard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// Rules are what a guest may send. They are declared, compared and read back in
// the form that Canonical gives them.
type Rules = linkspec.Guard

// flags as in bpf/rules.h.
const (
	flagLayer3 = 1 << iota
	flagIsolate
	flagMetadata
	flagVRRP
	flagGateways
)

var hostAccess = []linkspec.HostAccess{linkspec.HostAll, linkspec.HostGateway, linkspec.HostNone}

type net4 struct{ Net, Mask [4]byte }

type net6 struct{ Net, Mask [16]byte }

// constants is struct rules of bpf/rules.h.
type constants struct {
	Netns                     uint64
	Flags, HostAccess         uint32
	MACsLen                   uint32
	Own4Room, Own6Room        uint32
	StormLimit                uint32 // only to be read back
	StormInterval, StormBurst uint64 // ns
	GroupInterval             uint64 // ns
	Plain                     [4]uint64
	VLANs                     [64]uint64
	Packet                    packet
}

// packet is where members of the kernel's struct sk_buff are: csum_start, with
// csum_offset behind it, in bytes from the beginning, and mac_header in steps of two
// from there; and whether a program may ask how long its segments will be (1). It depends
// on the kernel alone, and so tells no programs apart.
type packet struct{ CsumStart, MACHeader, ChecksMTU, Spare uint32 }

// window is how far mac_header may be: WINDOW of bpf/rules.h.
const window = 32

// knobs are how many bytes of the constants come from the rules.
const knobs = int(unsafe.Offsetof(constants{}.Packet))

// alike tells whether constants are those of the same rules.
func alike(a, b []byte) bool {
	return len(a) == len(b) && len(a) > knobs && bytes.Equal(a[:knobs], b[:knobs])
}

// inPackets are the constants with what is known of the kernel.
func inPackets(shared []byte, p packet) ([]byte, error) {
	var c constants
	if err := fill(&c, shared); err != nil {
		return nil, err
	}
	c.Packet = p
	return bytesOf(&c), nil
}

// identity is struct port of bpf/rules.h.
type identity struct {
	MACs                       [linkspec.MaxGuardMACs]uint64
	Own4                       [linkspec.MaxGuardAddresses]net4
	Own6                       [linkspec.MaxGuardAddresses]net6
	HostMACs                   [linkspec.MaxGuardHostMACs]uint64
	Subnets6                   [linkspec.MaxGuardSubnets]net6
	Gateways6                  [linkspec.MaxGuardGateways][16]byte
	Subnets4                   [linkspec.MaxGuardSubnets]net4
	Gateways4                  [linkspec.MaxGuardGateways][4]byte
	Own4Len, Own6Len           uint32
	HostMACsLen                uint32
	Subnets4Len, Subnets6Len   uint32
	Gateways4Len, Gateways6Len uint32
	Router                     uint32
	Ifindex                    uint32
	Storm                      uint64
	Passed                     uint64
	Groups                     uint64
	_                          [8]uint64
}

// bytesOf is what the kernel is given of a constants or identity, which have no
// padding. Package encoding/binary would take a tenth of a guard's time.
func bytesOf[T constants | identity](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// fill is the inverse of bytesOf.
func fill[T constants | identity](v *T, from []byte) error {
	if to := bytesOf(v); len(from) != len(to) || copy(to, from) != len(to) {
		return fmt.Errorf("the program has %d bytes of rules, the plugin %d", len(from), len(to))
	}
	return nil
}

// plain are the protocols in which nothing has to be looked at: IPv4 and IPv6 in IP, DCCP,
// GRE, ESP, AH (over IPv4; over IPv6 the guard looks through it), IPComp, L2TP, SCTP,
// UDP-Lite, MPLS. What is not here, like PIM, OSPF and unknown ones, would speak to routers.
var plain = []int{4, 33, 41, 47, 50, 51, 108, 115, 132, 136, 137}

const vrrp = 112

// encode returns the contents of the program's constants, which guests of a
// network have in common, and what is the port's own. The rules must be checked
// and canonical.
func encode(r Rules, netns uint64) (shared []byte, id identity) {
	c := constants{Netns: netns}
	c.setFlags(r)
	c.setPlain(r)
	c.MACsLen = encodeMACs(id.MACs[:], r.MACs)
	if !r.L2Only {
		c.Own4Room, c.Own6Room = id.own(r)
	}
	id.Router = uint32(r.Router)
	id.HostMACsLen = encodeMACs(id.HostMACs[:], r.HostMACs)
	id.Subnets4Len, id.Subnets6Len = encodeNets(id.Subnets4[:], id.Subnets6[:], r.Subnets)
	for _, g := range r.Gateways {
		if g.Is4() {
			id.Gateways4[id.Gateways4Len] = g.As4()
			id.Gateways4Len++
		} else {
			id.Gateways6[id.Gateways6Len] = g.As16()
			id.Gateways6Len++
		}
	}
	for _, v := range r.VLANs {
		c.VLANs[v/64] |= 1 << (v % 64)
	}
	if r.StormLimit > 0 {
		c.StormLimit = uint32(r.StormLimit)
		c.StormInterval = uint64(time.Second) / uint64(r.StormLimit)
		c.StormBurst = uint64(time.Second) - c.StormInterval
	}
	if r.GroupLimit > 0 {
		c.GroupInterval = uint64(groupsAhead) / uint64(r.GroupLimit)
	}
	return bytesOf(&c), id
}

// groupsAhead is GROUPS_AHEAD of bpf/rules.h.
const groupsAhead = 256 * time.Second

// longestAhead is more than either limit lets a guest run ahead: a second of group
// frames, or groupsAhead of groups, and as much by each CPU that came at the same time.
func longestAhead() (time.Duration, error) {
	cpus, err := possibleCPUs()
	return time.Duration(1+cpus) * groupsAhead, err
}

// ahead is how long it is until a limit lets something pass again.
func (id *identity) ahead() (time.Duration, error) {
	now, err := tcbpf.Now()
	return time.Duration(min(max(id.Storm, id.Groups), math.MaxInt64)) - now, err
}

// own notes the guest's own addresses, and returns how many of each family the
// program has to look through: guests that differ by one or two share it, and one
// of each family is what most have, whatever the families are.
func (id *identity) own(r Rules) (room4, room6 uint32) {
	own := make([]netip.Prefix, 0, linkspec.MaxGuardAddresses)
	for _, a := range r.LinkLocals() {
		own = append(own, netip.PrefixFrom(a, 128))
	}
	implied := uint32(len(own))
	id.Own4Len, id.Own6Len = encodeNets(id.Own4[:], id.Own6[:], append(own, r.Addresses...))
	room4, room6 = room(id.Own4Len), min(implied+room(id.Own6Len-implied), linkspec.MaxGuardAddresses)
	for i := id.Own4Len; i < linkspec.MaxGuardAddresses; i++ {
		id.Own4[i].Net[0] = 1 // and no mask: no address is in there
	}
	for i := id.Own6Len; i < linkspec.MaxGuardAddresses; i++ {
		id.Own6[i].Net[0] = 1
	}
	return room4, room6
}

// room rounds up.
func room(n uint32) uint32 {
	for _, size := range []uint32{1, 2, 4} {
		if n <= size {
			return size
		}
	}
	return linkspec.MaxGuardAddresses
}

func (c *constants) setFlags(r Rules) {
	for flag, set := range map[uint32]bool{
		flagLayer3: !r.L2Only, flagIsolate: r.Isolate, flagMetadata: !r.ReachMetadata, flagVRRP: r.VRRP, flagGateways: claimable(r),
	} {
		if set {
			c.Flags |= flag
		}
	}
	for i, a := range hostAccess {
		if a == r.HostAccess {
			c.HostAccess = uint32(i)
		}
	}
}

func (c *constants) setPlain(r Rules) {
	for _, p := range plain {
		c.Plain[p/64] |= 1 << (p % 64)
	}
	if r.VRRP {
		c.Plain[vrrp/64] |= 1 << (vrrp % 64)
	}
}

// claimable tells whether one of the guest's own addresses could be a gateway's.
func claimable(r Rules) bool {
	if r.L2Only {
		return len(r.Gateways) > 0
	}
	for _, g := range r.Gateways {
		for _, p := range r.Addresses {
			if p.Contains(g) {
				return true
			}
		}
	}
	return false
}

func encodeMACs(to []uint64, macs []net.HardwareAddr) uint32 {
	for i, m := range macs {
		var b [8]byte
		copy(b[:], m)
		to[i] = binary.LittleEndian.Uint64(b[:])
	}
	return uint32(len(macs))
}

func encodeNets(to4 []net4, to6 []net6, prefixes []netip.Prefix) (n4, n6 uint32) {
	for _, p := range prefixes {
		mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
		if p.Addr().Is4() {
			to4[n4] = net4{Net: p.Masked().Addr().As4(), Mask: [4]byte(mask)}
			n4++
		} else {
			to6[n6] = net6{Net: p.Masked().Addr().As16(), Mask: [16]byte(mask)}
			n6++
		}
	}
	return n4, n6
}

// decode is the inverse of encode.
func decode(shared []byte, id identity) (Rules, error) {
	var c constants
	if err := fill(&c, shared); err != nil {
		return Rules{}, err
	}
	r := Rules{
		L2Only: c.Flags&flagLayer3 == 0, Isolate: c.Flags&flagIsolate != 0, ReachMetadata: c.Flags&flagMetadata == 0, VRRP: c.Flags&flagVRRP != 0, StormLimit: int(c.StormLimit),
		Router: int(id.Router), HostAccess: hostAccess[min(int(c.HostAccess), len(hostAccess)-1)],
		MACs:      decodeMACs(id.MACs[:], c.MACsLen),
		HostMACs:  decodeMACs(id.HostMACs[:], id.HostMACsLen),
		Addresses: decodeNets(id.Own4[:], id.Own6[:], id.Own4Len, id.Own6Len),
		Subnets:   decodeNets(id.Subnets4[:], id.Subnets6[:], id.Subnets4Len, id.Subnets6Len),
	}
	if c.GroupInterval > 0 {
		r.GroupLimit = int(uint64(groupsAhead) / c.GroupInterval)
	}
	for i := range min(id.Gateways4Len, linkspec.MaxGuardGateways) {
		r.Gateways = append(r.Gateways, netip.AddrFrom4(id.Gateways4[i]))
	}
	for i := range min(id.Gateways6Len, linkspec.MaxGuardGateways) {
		r.Gateways = append(r.Gateways, netip.AddrFrom16(id.Gateways6[i]))
	}
	for v := range 4096 {
		if c.VLANs[v/64]>>(v%64)&1 != 0 {
			r.VLANs = append(r.VLANs, v)
		}
	}
	return r.Canonical(), nil
}

// encodes tells whether these are the rules' bytes, each of them: the program goes by
// some that are not read back.
func encodes(r Rules, shared []byte, id identity) bool {
	var c constants
	if fill(&c, shared) != nil {
		return false
	}
	want, own := encode(r, c.Netns)
	own.Ifindex, own.Storm, own.Passed, own.Groups = id.Ifindex, id.Storm, id.Passed, id.Groups
	return alike(want, shared) && own == id
}

func decodeMACs(from []uint64, n uint32) []net.HardwareAddr {
	var macs []net.HardwareAddr
	for i := range min(int(n), len(from)) {
		macs = append(macs, binary.LittleEndian.AppendUint64(nil, from[i])[:6])
	}
	return macs
}

func decodeNets(from4 []net4, from6 []net6, n4, n6 uint32) []netip.Prefix {
	var all []netip.Prefix
	for i := range min(int(n4), len(from4)) {
		ones, _ := net.IPMask(from4[i].Mask[:]).Size()
		all = append(all, netip.PrefixFrom(netip.AddrFrom4(from4[i].Net), ones))
	}
	for i := range min(int(n6), len(from6)) {
		ones, _ := net.IPMask(from6[i].Mask[:]).Size()
		all = append(all, netip.PrefixFrom(netip.AddrFrom16(from6[i].Net), ones))
	}
	return all
}
