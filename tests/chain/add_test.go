package chain

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// answered is a result as it is printed, by a version's own rules.
type answered struct {
	Interfaces []map[string]any `json:"interfaces"`
	IPs        []map[string]any `json:"ips"`
	Routes     []map[string]any `json:"routes"`
	DNS        map[string]any   `json:"dns"`
}

func parse(t *testing.T, doc map[string]any) (r answered) {
	t.Helper()
	b, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The shape of the result is a contract with runtimes and with the plugins that
// come later in the chain.
func TestResult(t *testing.T) {
	for _, version := range since("0.3.0") {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", version, tap, gateway.with(conf{"isDefaultGateway": true}))
			v := h.vm("vm1")
			first := h.exec(call{plugin: "microvm-tap", verb: "ADD", vm: v, stdin: n.single(0, nil)}).ok(t).object(t)
			r := parse(t, h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(1, conf{"prevResult": first})}).ok(t).object(t))
			defer n.remove(v)

			if len(r.Interfaces) != 4 {
				t.Fatalf("%d interfaces, want bridge, tap, guest and eth0: %v", len(r.Interfaces), r.Interfaces)
			}
			bridge, tap, guest, eth0 := r.Interfaces[0], r.Interfaces[1], r.Interfaces[2], r.Interfaces[3]
			link := h.link(fmt.Sprint(tap["name"]))
			for _, want := range []struct {
				what      string
				got, want any
			}{
				{"bridge", bridge["name"], "br0"},
				{"MAC of the bridge", bridge["mac"], h.link("br0").MAC},
				{"sandbox of the bridge", bridge["sandbox"], nil},
				{"MAC of the tap", tap["mac"], link.MAC},
				{"sandbox of the tap", tap["sandbox"], nil},
				{"guest's name", guest["name"], tap["name"]},
				{"guest's sandbox", guest["sandbox"], v.id},
				{"name for portmap", eth0["name"], v.ifname},
				{"sandbox for portmap", eth0["sandbox"], v.netns},
				{"MAC for portmap", eth0["mac"], guest["mac"]},
			} {
				if want.got != want.want {
					t.Errorf("%s is %v, want %v", want.what, want.got, want.want)
				}
			}
			if mac, err := net.ParseMAC(fmt.Sprint(guest["mac"])); err != nil || link.MAC != "fe"+mac.String()[2:] {
				t.Errorf("tap has MAC %s, guest %v: want fe and the guest's last five bytes", link.MAC, guest["mac"])
			}
			for _, in := range r.Interfaces {
				if mtu, there := in["mtu"]; there != (version == newest) || there && mtu != 1500.0 {
					t.Errorf("mtu of %v in version %s is %v", in["name"], version, mtu)
				}
			}
			if len(r.IPs) != 2 || r.IPs[0]["interface"] != 2.0 || r.IPs[1]["interface"] != 3.0 {
				t.Errorf("ips are %v, want one on interface 2 and its copy on 3", r.IPs)
			}
			for _, ip := range r.IPs {
				if ip["address"] != "10.1.0.2/16" || ip["gateway"] != "10.1.0.1" {
					t.Errorf("ip is %v", ip)
				}
				if family, there := ip["version"]; there != (version < "1.0.0") || there && family != "4" {
					t.Errorf("version of an ip in version %s is %v", version, family)
				}
			}
			if len(r.Routes) != 1 || r.Routes[0]["dst"] != "0.0.0.0/0" || r.Routes[0]["gw"] != "10.1.0.1" {
				t.Errorf("routes are %v, want the default route", r.Routes)
			}
		})
	}
}

// What an earlier plugin of the chain said is passed on, and its indices follow
// its interfaces.
func TestPrevResultIsExtended(t *testing.T) {
	for _, version := range since("0.3.0") {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			ip := conf{"address": "192.0.2.9/24", "interface": 1}
			if version < "1.0.0" {
				ip["version"] = "4"
			}
			earlier := conf{
				"cniVersion": version,
				"interfaces": []conf{{"name": "wire0"}, {"name": "net1", "sandbox": h.guests, "mac": "02:00:00:00:00:01"}},
				"ips":        []conf{ip},
				"routes":     []conf{{"dst": "198.51.100.0/24", "gw": "192.0.2.1"}},
				"dns":        conf{"nameservers": []string{"192.0.2.53"}},
			}
			h.fake("earlier", `[ "$CNI_COMMAND" = ADD ] && cat <<'RESULT' || true`+"\n"+earlier.json()+"\nRESULT")
			n := h.network("lab", version, conf{"type": "earlier"}, tap, gateway)
			v := h.vm("vm1")
			r := n.add(v)
			defer n.remove(v)

			var names []string
			for _, in := range r.Interfaces {
				names = append(names, in.Name)
			}
			tapName := v.tapOf(r)
			if want := []string{"br0", tapName, tapName, "wire0", "net1", "eth0"}; !slices.Equal(names, want) {
				t.Errorf("interfaces are %v, want %v", names, want)
			}
			if len(r.IPs) != 3 {
				t.Fatalf("ips are %v, want that of the earlier plugin and ours twice", r.IPs)
			}
			for i, want := range []struct {
				address string
				on      int
			}{{"192.0.2.9/24", 4}, {"10.1.0.2/16", 2}, {"10.1.0.2/16", 5}} {
				if got := r.IPs[i]; got.Address.String() != want.address || got.Interface == nil || *got.Interface != want.on {
					t.Errorf("ip %d is %v, want %s on interface %d", i, got, want.address, want.on)
				}
			}
			if len(r.Routes) != 1 || r.Routes[0].Dst.String() != "198.51.100.0/24" {
				t.Errorf("routes are %v", r.Routes)
			}
			if !slices.Equal(r.DNS.Nameservers, []string{"192.0.2.53"}) {
				t.Errorf("nameservers are %v", r.DNS.Nameservers)
			}
			if version >= "0.4.0" {
				n.holds(v)
			}
		})
	}
}

// A second ADD is an error, and the first attachment does not notice.
func TestSecondAdd(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	v := h.vm("vm1")
	r := n.add(v)
	_, err := n.tryAdd(v)
	wantError(t, err, 101, "eth0", "vm1", "lab", v.tapOf(r))
	for i := range n.plugins {
		h.exec(call{plugin: n.plugins[i].plugin(), verb: "ADD", vm: v, stdin: n.single(i, conf{"prevResult": r})}).
			refused(t, newest, 101, "vm1")
	}
	n.holds(v)
	if leases := h.leases("lab"); !slices.Equal(leases, []string{"10.1.0.2"}) {
		t.Errorf("leases are %v", leases)
	}
	n.remove(v)
}

// Another device of the tap's name is an error, and stays as it is.
func TestNameTaken(t *testing.T) {
	h := newHost(t)
	h.tap("tap0")
	h.bridge("br1", "")
	n := h.network("lab", newest, tap, gateway)
	before := h.snapshot("ip -d link show tap0; ip -d link show br1")
	for _, name := range []string{"tap0", "br1", "lo"} {
		v := h.vm("vm1")
		v.args = "TAP_NAME=" + name
		_, err := n.tryAdd(v)
		wantError(t, err, 101, name)
		n.remove(v)
	}
	before.same(t)
}

// With the runtime in the plugins' own namespace the tap has the name that the
// runtime knows, and the answer is one document.
func TestOwnNetns(t *testing.T) {
	for _, version := range since("0.3.0") {
		t.Run(version, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", version, tap, gateway)
			v := vm{id: "vm1", ifname: "vmtap7", netns: h.Path()}
			r := n.add(v)
			if v.tapOf(r) != "vmtap7" || h.link("vmtap7") == nil {
				t.Errorf("tap is %s, want vmtap7", v.tapOf(r))
			}
			if len(r.Interfaces) != 3 || len(r.IPs) != 1 {
				t.Errorf("result is %v, want no second name for the guest", r)
			}
			if version >= "0.4.0" {
				n.holds(v)
			}
			n.remove(v)
			h.empty()

			first := h.exec(call{plugin: "microvm-tap", verb: "ADD", vm: v, stdin: n.single(0, nil)}).ok(t).object(t)
			h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(1, conf{"prevResult": first})}).ok(t).object(t)
			h.exec(call{plugin: "microvm-bridge", verb: "DEL", vm: v, stdin: n.single(1, nil)}).silent(t)
			h.exec(call{plugin: "microvm-tap", verb: "DEL", vm: v, stdin: n.single(0, nil)}).silent(t)
			h.empty()
		})
	}
}

// A VM may have several NICs on a network, and the same NIC on several.
func TestAttachmentsAreApart(t *testing.T) {
	h := newHost(t)
	lab := h.pair(nil)
	other := h.network("other", newest, tap, gateway.with(conf{"bridge": "br1", "ipam": conf{"type": "host-local", "ranges": ranges("10.2.0.0/16")}}))
	eth0 := h.vm("vm1")
	eth1 := eth0
	eth1.ifname = "eth1"
	seen := map[string]bool{}
	for _, r := range []*types100.Result{lab.add(eth0), lab.add(eth1), other.add(eth0)} {
		guest := r.Interfaces[2]
		if seen[guest.Name] || seen[guest.Mac] {
			t.Errorf("two NICs share %s or %s", guest.Name, guest.Mac)
		}
		seen[guest.Name], seen[guest.Mac] = true, true
	}
	lab.remove(eth0)
	lab.holds(eth1)
	other.holds(eth0)
	lab.remove(eth1)
	other.remove(eth0)
}

// A NIC that is made again is the same to its guest.
func TestStableNames(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	v := h.vm("vm1")
	first := n.add(v).Interfaces[2]
	n.remove(v)
	second := n.add(v).Interfaces[2]
	n.remove(v)
	if first.Name != second.Name || first.Mac != second.Mac {
		t.Errorf("NIC was %v, and then %v", first, second)
	}
}
