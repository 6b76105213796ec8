package chain

import (
	"encoding/json"
	"strings"
	"testing"
)

// raw is JSON as it stands.
func raw(s string) json.RawMessage { return json.RawMessage(s) }

// foreign is a network whose tap is made by somebody else's plugin.
func (h *host) foreign(name string) *network {
	h.t.Helper()
	h.fake("other-tap", strings.ReplaceAll(`case "$CNI_COMMAND" in
ADD)
  ip tuntap add TAP mode tap
  ip link set TAP mtu 1450
  echo '{"cniVersion":"1.1.0","interfaces":[{"name":"TAP"}]}' ;;
esac`, "TAP", name))
	h.mine = append(h.mine, name)
	return h.network("lab", newest, conf{"type": "other-tap"}, gateway)
}

// Any plugin's tap is joined, and given back as it was, less the bridge.
func TestForeignTap(t *testing.T) {
	h := newHost(t)
	n := h.foreign("tap0")
	v := h.vm("vm1")
	r := n.add(v)
	joined := h.link("tap0")
	if joined.Master != "br0" || !joined.up() || joined.MTU != 1450 {
		t.Errorf("tap0 is on %q, flags %v, mtu %d", joined.Master, joined.Flags, joined.MTU)
	}
	if v.tapOf(r) != "tap0" || r.Interfaces[2].Mac == joined.MAC {
		t.Errorf("result is %v", r)
	}
	n.holds(v)
	n.remove(v)
	left := h.link("tap0")
	if left == nil {
		t.Fatal("DEL deleted a tap that is not ours")
	}
	if left.Master != "" || left.up() || len(left.AltNames) > 0 || left.Alias != "" {
		t.Errorf("DEL left tap0 so: %+v", left)
	}
	n.remove(v)
}

// A bridge plugin that fails gives the tap back as it got it.
func TestForeignTapAfterFailure(t *testing.T) {
	h := newHost(t)
	h.tap("tap0")
	h.fake("broken", `[ "$CNI_COMMAND" != ADD ] || exit 1`)
	before := h.snapshot("ip -d link show tap0; cat /proc/sys/net/ipv6/conf/tap0/disable_ipv6")
	n := h.network("lab", newest, gateway)
	v := h.vm("vm1")
	prev := conf{"cniVersion": newest, "interfaces": []conf{{"name": "tap0"}}}
	for _, ipam := range []conf{
		{"type": "broken"},
		{"type": "host-local", "ranges": ranges("10.1.0.0/16", "10.1.0.0/17")},
		{"type": "static", "addresses": []conf{{"address": "10.1.0.1/16", "gateway": "10.1.0.1"}}},
	} {
		a := h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(0, conf{"prevResult": prev, "ipam": ipam})})
		if a.exit == 0 {
			t.Errorf("%v: ADD succeeded: %s", ipam, a.stdout)
		}
		before.same(t)
		h.empty()
	}
}

// A filter that runs before the guard could get a guest's frames past it: such a tap
// is refused, and given back as it was. Nobody minds one that comes after it.
func TestForeignTapWithFilter(t *testing.T) {
	for _, filter := range []struct {
		preference string
		refused    bool
	}{{"1", true}, {"9", true}, {"11", false}} {
		t.Run(filter.preference, func(t *testing.T) {
			h := newHost(t)
			h.tap("tap0")
			h.fake("other-tap", `[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","interfaces":[{"name":"tap0"}]}'`)
			h.sh("tc qdisc add dev tap0 clsact; tc filter add dev tap0 ingress pref " + filter.preference + " protocol ip u32 match ip src 198.51.100.99/32 flowid 1:1")
			before := h.snapshot("ip -d link show tap0; tc filter show dev tap0 ingress; tc qdisc show dev tap0 clsact")
			n, v := h.network("lab", newest, conf{"type": "other-tap"}, gateway), h.vm("vm1")
			_, err := n.tryAdd(v)
			if filter.refused {
				wantError(t, err, 101, "before the guard: a filter u32 at preference "+filter.preference, "tap0")
				before.same(t)
			} else if err != nil {
				t.Fatal(err)
			}
			n.remove(v)
			before.same(t)
		})
	}
}

// A tap that is not what an earlier plugin said, or that another attachment has, is
// refused, and stays as it is.
func TestTapOfSomebodyElse(t *testing.T) {
	for _, placement := range []string{"host", "netns"} {
		for _, test := range []struct {
			name, script string // IP runs ip where the tap is
			mac          string // in prevResult
			code         uint
			words        []string
		}{
			{"another MAC address", "IP tuntap add tap0 mode tap; IP link set tap0 address 02:00:00:00:00:99", "fe:00:00:00:00:11", 7, []string{"tap0", "02:00:00:00:00:99", "fe:00:00:00:00:11", "not the tap that was made"}},
			{"another attachment's tag", "IP tuntap add tap0 mode tap; IP link set tap0 alias microvm-cni:lab/vm2/eth0", "", 101, []string{"tap0", "container vm2"}},
			{"another attachment's handle", "IP tuntap add tap0 mode tap; IP link property add dev tap0 altname microvm-tap.pj7p4ejlu6.x6uxidwkipyggspmlxoebjgcoy", "", 101, []string{"tap0", "another attachment"}},
			{"another name", "IP tuntap add tap7 mode tap; IP link property add dev tap7 altname tap0", "", 7, []string{"another name of tap", "tap7"}},
		} {
			t.Run(placement+" "+test.name, func(t *testing.T) {
				h := newHost(t)
				ip, entry := "ip", conf{"name": "tap0"}
				v := h.vm("vm1")
				if placement == "netns" {
					ip, entry = "ip -n guests", conf{"name": "tap0", "sandbox": v.netns}
				}
				if test.mac != "" {
					entry["mac"] = test.mac
				}
				h.sh(strings.ReplaceAll(test.script, "IP", ip))
				before := h.snapshot("ip -d link show; ip -n guests -d link show; " + ip + " link | grep -q tap")
				n := h.network("lab", newest, gateway)
				add := call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(0, conf{"prevResult": conf{"cniVersion": newest, "interfaces": []conf{entry}}})}
				h.exec(add).refused(t, newest, test.code, test.words...)
				before.same(t)
				if leases := h.leases("lab"); len(leases) > 0 {
					t.Errorf("leases are %v", leases)
				}
				h.sh("for t in tap0 tap7; do " + ip + " link del $t 2>/dev/null || true; done")
			})
		}
	}
}

// DEL gives a tap that somebody else made in the VMM's namespace back as it was, but
// down.
func TestForeignTapAway(t *testing.T) {
	for _, result := range []bool{true, false} {
		h := newQuietHost(t)
		v := h.vm("vm1")
		h.sh("ip -n guests tuntap add eth0 mode tap; ip -n guests link set eth0 up; ip -n guests link set eth0 down") // which gives it a queue
		there := "ip -n guests -d link show eth0; tc -n guests qdisc show dev eth0"
		before := h.snapshot(there)
		n := h.network("lab", newest, gateway)
		prev := conf{"cniVersion": newest, "interfaces": []conf{{"name": "eth0", "sandbox": v.netns}}}
		c := call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(0, conf{"prevResult": prev})}
		r := h.exec(c).ok(t).object(t)
		c.verb, c.stdin = "DEL", n.single(0, nil)
		if result {
			c.stdin = n.single(0, conf{"prevResult": r})
		}
		h.exec(c).silent(t)
		before.same(t)
		if left, err := h.programs(place{"guests", "eth0", "ingress"}); err != nil || left > 0 {
			t.Errorf("%d programs are left, %v", left, err)
		}
		h.exec(c).silent(t)
		h.sh("ip -n guests link del eth0")
	}
}
