package chain

import (
	"os/user"
	"strings"
	"testing"
)

// text is a JSON string or number as text.
func text(b []byte) string { return strings.Trim(string(b), `"`) }

// What CNI_ARGS and the tap's configuration make of the tap.
func TestTapSettings(t *testing.T) {
	nobody, err := user.LookupId("65534")
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId("65534")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		conf conf
		args string
		ok   func(l *link) bool
	}{
		{"nothing", nil, "", func(l *link) bool {
			return text(l.Info.Data.User) == "root" && l.Info.Data.Group == nil && !l.Info.Data.MultiQueue && l.Info.Data.Persist && l.Info.Data.VnetHdr
		}},
		{"owner by number", conf{"owner": 1234}, "", func(l *link) bool { return text(l.Info.Data.User) == "1234" }},
		{"owner by name", conf{"owner": nobody.Username}, "", func(l *link) bool { return text(l.Info.Data.User) == nobody.Username }},
		{"group alone", conf{"group": 4321}, "", func(l *link) bool { return l.Info.Data.User == nil && text(l.Info.Data.Group) == "4321" }},
		{"group by name", conf{"owner": 1, "group": group.Name}, "", func(l *link) bool { return text(l.Info.Data.Group) == group.Name }},
		{"owner and group by argument", conf{"owner": 1}, "TAP_OWNER=77;TAP_GROUP=78", func(l *link) bool {
			return text(l.Info.Data.User) == "77" && text(l.Info.Data.Group) == "78"
		}},
		{"synonyms", nil, "TC_REDIRECT_TAP_NAME=vmtap;TC_REDIRECT_TAP_UID=77;TC_REDIRECT_TAP_GID=78", func(l *link) bool {
			return l.Name == "vmtap" && text(l.Info.Data.User) == "77" && text(l.Info.Data.Group) == "78"
		}},
		{"synonyms that agree", nil, "TC_REDIRECT_TAP_NAME=vmtap;TAP_NAME=vmtap", func(l *link) bool { return l.Name == "vmtap" }},
		{"name", nil, "TAP_NAME=a.b-c_d", func(l *link) bool { return l.Name == "a.b-c_d" }},
		{"queues", conf{"multiQueue": true}, "", func(l *link) bool { return l.Info.Data.MultiQueue }},
		{"mtu", conf{"mtu": 1280}, "", func(l *link) bool { return l.MTU == 1280 }},
		{"txQueueLen", conf{"txQueueLen": 123}, "", func(l *link) bool { return l.TxQueue == 123 }},
		{"somebody else's argument", nil, "IgnoreUnknown=1;K8S_POD_NAME=p", func(*link) bool { return true }},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", newest, tap.with(test.conf), gateway)
			v := h.vm("vm1")
			v.args = test.args
			l := h.link(v.tapOf(n.add(v)))
			if !test.ok(l) {
				t.Errorf("tap is %+v, user %s, group %s", l, l.Info.Data.User, l.Info.Data.Group)
			}
			n.holds(v)
			v.args = "" // not every runtime repeats them
			n.remove(v)
		})
	}
}

// The guest's MAC address by precedence: runtime, label, argument, configuration.
func TestPrecedenceOfMACs(t *testing.T) {
	const (
		config = "02:00:00:00:00:01"
		arg    = "02:00:00:00:00:02"
		label  = "02:00:00:00:00:03"
		asked  = "02:00:00:00:00:04"
	)
	able := conf{"capabilities": conf{"mac": true}}
	labelled := conf{"args": conf{"cni": conf{"mac": label}}}
	for _, test := range []struct {
		name         string
		tap, bridge  conf
		args         string
		capabilities map[string]any
		want         string
	}{
		{"configuration", conf{"mac": config}, nil, "", nil, config},
		{"argument over configuration", conf{"mac": config}, nil, "MAC=" + arg, nil, arg},
		{"label over argument", labelled.with(conf{"mac": config}), labelled, "MAC=" + arg, nil, label},
		{"capability over label", labelled.with(able), labelled.with(able), "MAC=" + arg, map[string]any{"mac": asked}, asked},
		{"capability that only the tap's plugin has", able, nil, "", map[string]any{"mac": asked}, asked},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.network("lab", newest, tap.with(test.tap), gateway.with(test.bridge))
			v := h.vm("vm1")
			v.args, v.capabilities = test.args, test.capabilities
			r := n.add(v)
			if got := r.Interfaces[2].Mac; got != test.want {
				t.Errorf("guest's MAC is %s, want %s", got, test.want)
			}
			if got := r.Interfaces[1].Mac; got != "fe"+test.want[2:] {
				t.Errorf("tap's MAC is %s", got)
			}
			n.holds(v)
			n.remove(v)
		})
	}
}

// A runtime that wants an address gets it.
func TestAskedAddresses(t *testing.T) {
	static := conf{"type": "static"}
	able := conf{"capabilities": conf{"ips": true}}
	for _, test := range []struct {
		name         string
		more         conf
		args         string
		capabilities map[string]any
		want         string
	}{
		{"argument, host-local", nil, "IP=10.1.0.77", nil, "10.1.0.77/16"},
		{"argument, host-local, beside ours", nil, "IP=10.1.0.77;TAP_OWNER=7;MAC=02:00:00:00:00:01", nil, "10.1.0.77/16"},
		{"argument, static", conf{"ipam": static}, "IP=10.1.0.77/16;GATEWAY=10.1.0.1", nil, "10.1.0.77/16"},
		{"capability, host-local", able, "", map[string]any{"ips": []string{"10.1.0.77"}}, "10.1.0.77/16"},
		{"capability, static", able.with(conf{"ipam": static}), "", map[string]any{"ips": []string{"10.1.0.77/16"}}, "10.1.0.77/16"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.pair(test.more)
			v := h.vm("vm1")
			v.args, v.capabilities = test.args, test.capabilities
			r := n.add(v)
			if got := r.IPs[0].Address.String(); got != test.want {
				t.Errorf("address is %s, want %s", got, test.want)
			}
			n.holds(v)
			n.remove(v)
		})
	}
}

// An address that is taken, or outside of the range, is host-local's error.
func TestAskedAddressTaken(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	one, two := h.vm("vm1"), h.vm("vm2")
	one.args, two.args = "IP=10.1.0.77", "IP=10.1.0.77"
	n.add(one)
	_, err := n.tryAdd(two)
	wantError(t, err, 11, "host-local", "10.1.0.77")
	n.remove(two)
	two.args = "IP=192.0.2.1"
	_, err = n.tryAdd(two)
	wantError(t, err, 11, "host-local", "192.0.2.1")
	n.remove(two)
	n.holds(one)
	n.remove(one)
}

// A tap that was renamed is missed, and found by its handle.
func TestRenamedTap(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	v := h.vm("vm1")
	v.args = "TAP_NAME=vmtap"
	n.add(v)
	n.holds(v)
	v.args = "" // the name is in prevResult
	n.holds(v)
	h.sh("ip link set vmtap down && ip link set vmtap name other && ip link set other up")
	wantError(t, n.check(v), 102, "vmtap")
	n.remove(v)
}
