package chain

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

// A guest that leaves a checksum to the kernel tells it where to write; not over
// what was judged. The neighbour's VMM takes no unfinished checksums, so that the
// kernel has written them when it gets a frame.
func TestGuardStopsOffloads(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, nil, neighbourOf)
			for _, o := range frames.Offloads {
				h := [vnetHeader]byte{0: 1}
				binary.NativeEndian.PutUint16(h[6:], uint16(o.Start))
				binary.NativeEndian.PutUint16(h[8:], uint16(o.At))
				f := frames.Sealed(o.Frame)
				if o.By != "passed" {
					if harm, _ := a.achieved(f, h); len(harm) > 0 {
						t.Errorf("%s: %s", o.Name, strings.Join(harm, ", "))
					}
					continue
				}
				a.neighbour.pending()
				if _, err := a.guest.fd.Write(frames.Cat(h[:], f)); err != nil {
					t.Fatal(err)
				}
				at := o.Start + o.At
				same := func(got []byte) bool {
					return len(got) == len(f) && bytes.Equal(got[:at], f[:at]) && bytes.Equal(got[at+2:], f[at+2:])
				}
				if bytes.Equal(f[:6], a.neighbour.mac) && a.neighbour.receive(10*time.Second, same) == nil {
					t.Errorf("%s: the neighbour does not get it", o.Name)
				}
				if f[0]&1 != 0 && !slices.ContainsFunc(a.barrier(), same) {
					t.Errorf("%s: the host does not get it", o.Name)
				}
			}
			a.n.holds(a.v)
		})
	}
}

// A kernel that does not tell its types has guards, too. STATUS says what that may
// mean.
func TestGuardOnAKernelWithoutTypes(t *testing.T) {
	h := newHost(t)
	n, v := h.pair(nil), h.vm("vm1")
	for _, told := range []bool{true, false} {
		if !told {
			h.sh("mount --bind /dev/null /sys/kernel/btf/vmlinux")
		}
		status := h.exec(call{plugin: "microvm-bridge", verb: "STATUS", vm: v, stdin: n.single(1, nil)})
		if says := strings.Contains(status.stderr, "CONFIG_DEBUG_INFO_BTF"); status.exit != 0 || says == told || told && status.stderr != "" {
			t.Errorf("the kernel tells %t: exit %d, stderr %q", told, status.exit, status.stderr)
		}
		n.add(v)
		n.holds(v)
		n.remove(v)
	}
}

// The bridge's own link-local address is a gateway's, whatever else is the guest's.
func TestGuardKeepsTheGatewaysLinkLocal(t *testing.T) {
	for placement, tap := range placements {
		t.Run(placement, func(t *testing.T) {
			a := newArena(t, tap, conf{"guard": conf{"addresses": []string{"fe80::/64"}}}, neighbourOf)
			claim := func(address string) []byte {
				return frames.Sealed(frames.To6(address, "ff02::1", frames.ProtoICMPv6, frames.ND(136, address, frames.LinkLayer(2, frames.GuestMAC))))
			}
			if harm, _ := a.achieved(claim(frames.GatewayLocal), [vnetHeader]byte{}); len(harm) > 0 {
				t.Errorf("the gateway's: %s", strings.Join(harm, ", "))
			}
			if harm, _ := a.achieved(claim("fe80::77"), [vnetHeader]byte{}); len(harm) == 0 {
				t.Error("another link-local address does not arrive")
			}
			a.n.holds(a.v)
		})
	}
}

// One guest cannot report so many groups that the bridge gives up keeping them apart.
func TestGuardLimitsGroups(t *testing.T) {
	reports := map[string]func(n int) []byte{
		"MLD": func(n int) []byte {
			group := frames.Cat([]byte{0xff, 5}, frames.Zeros(12), frames.Uint16(n))
			return frames.Eth("33:33:00:00:00:16", frames.GuestMAC, frames.TypeIPv6, frames.IP6(frames.GuestLocal, "ff02::16", 0,
				[]byte{frames.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}, patchedReport(frames.ICMP(143, []byte{4, 0, 0, 0}, group))))
		},
		"IGMP": func(n int) []byte {
			return frames.Eth("01:00:5e:00:00:16", frames.GuestMAC, frames.TypeIPv4, frames.IP4f(frames.Guest4, "224.0.0.22", 2, 0,
				[]byte{0x94, 4, 0, 0}, patchedReport([]byte{0x22, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 239, 7}), frames.Uint16(n)))
		},
		// Each source of a group is an entry, where the bridge goes by sources.
		"MLD with sources": func(n int) []byte {
			group := frames.Cat([]byte{0xff, 5}, frames.Zeros(12), frames.Uint16(n))
			for i := range 32 {
				group = frames.Cat(group, []byte{0xfd}, frames.Zeros(13), frames.Uint16(i))
			}
			return frames.Eth("33:33:00:00:00:16", frames.GuestMAC, frames.TypeIPv6, frames.IP6(frames.GuestLocal, "ff02::16", 0,
				[]byte{frames.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}, patchedReport(frames.ICMP(143, []byte{1, 0, 0, 32}, group))))
		},
		"IGMP with sources": func(n int) []byte {
			group := frames.Cat([]byte{239, 7}, frames.Uint16(n))
			for i := range 32 {
				group = frames.Cat(group, []byte{10, 9}, frames.Uint16(i))
			}
			return frames.Eth("01:00:5e:00:00:16", frames.GuestMAC, frames.TypeIPv4, frames.IP4f(frames.Guest4, "224.0.0.22", 2, 0,
				[]byte{0x94, 4, 0, 0}, patchedReport([]byte{0x22, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 32}), group))
		},
	}
	for placement, tap := range placements {
		for protocol, report := range reports {
			t.Run(placement+" "+protocol, func(t *testing.T) {
				const most, tried = 128, 4200 // more than a bridge keeps
				a := newArena(t, tap, conf{"guard": conf{"stormLimit": 0}}, neighbourOf)
				a.h.sh("ip link set br0 type bridge mcast_igmp_version 3 mcast_mld_version 2")
				for i := range tried {
					a.guest.send(frames.Sealed(report(i)))
				}
				a.barrier()
				n := strings.Count(a.h.sh("bridge mdb show dev br0"), " port "+a.port+" ")
				if n > most+tried/100 || n < most/2 { // it may go on while it is tried
					t.Errorf("the guest is in %d groups of %d, %d may be", n, tried, most)
				}
				if snooping := strings.TrimSpace(a.h.sh("cat /sys/class/net/br0/bridge/multicast_snooping")); snooping != "1" {
					t.Errorf("multicast_snooping is %s", snooping)
				}
				a.n.holds(a.v)
			})
		}
	}
}

// patchedReport says that there is one record.
func patchedReport(report []byte) []byte {
	report[7] = 1
	return report
}
