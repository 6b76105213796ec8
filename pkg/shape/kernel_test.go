package shape_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/shape"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// newPort makes a host with a port (one end of a veth pair, as tc sees no
// difference) and both devices, and moves the test there.
func newPort(t *testing.T) shape.Port {
	t.Helper()
	sandbox.NewHost(t).Enter()
	run(t, "ip link add port type veth peer name other")
	t.Cleanup(func() { run(t, "ip link del port") })
	return shape.Port{Index: index(t, "port"), ToGuest: newDevice(t, "ifb-to"), FromGuest: newDevice(t, "ifb-from")}
}

func newDevice(t *testing.T, name string) int {
	t.Helper()
	i, err := shape.CreateDevice(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shape.DeleteDevice(name); err != nil {
			t.Error(err)
		}
	})
	return i
}

func index(t *testing.T, name string) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}

func run(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func apply(t *testing.T, p shape.Port, l shape.Limits) {
	t.Helper()
	if err := shape.Apply(p, l); err != nil {
		t.Fatalf("%+v: %v", l, err)
	}
}

func observe(t *testing.T, p shape.Port) shape.Limits {
	t.Helper()
	l, err := shape.Observe(p)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// state is all that tc shows, without what changes by itself.
func state(t *testing.T) string {
	t.Helper()
	s := run(t, "tc qdisc show")
	for _, h := range []string{"ingress", "egress"} {
		s += run(t, "tc filter show dev port "+h)
	}
	return s
}

func subnets(all ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range all {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// The limits between which the tests move.
func cases() []shape.Limits {
	const endless = math.MaxUint32 // bits of burst
	slow, fast := shape.Limit{Rate: 1e6}, shape.Limit{Rate: 1e10, Burst: 5e8}
	beyond := shape.Limit{Rate: 4e10} // more bytes a second than 32 bits hold
	mixed := subnets("10.0.0.0/8", "192.0.2.7/32", "fd00:db8:abcd:1234:e000::/68", "2001:db8::/32")
	return []shape.Limits{
		{},
		{ToGuest: slow},
		{FromGuest: slow},
		{ToGuest: slow, FromGuest: fast},
		{ToGuest: beyond, FromGuest: beyond},
		{ToGuest: shape.Limit{Rate: 123456789, Burst: endless}, FromGuest: shape.Limit{Rate: 1e7 + 3, Burst: 99999, Queue: 777777}},
		{ToGuest: fast, FromGuest: slow, ShapedSubnets: mixed},
		{ToGuest: fast, FromGuest: slow, UnshapedSubnets: mixed},
		{FromGuest: slow, UnshapedSubnets: subnets("0.0.0.0/0")},
		{ToGuest: slow, ShapedSubnets: subnets("::/0")},
		{ToGuest: slow, FromGuest: slow, ShapedSubnets: subnets("10.0.0.0/8", "10.0.0.0/16", "10.1.2.3/8")},
	}
}

func TestObserveReadsWhatApplyWrote(t *testing.T) {
	p := newPort(t)
	before := state(t)
	for _, l := range cases() {
		apply(t, p, l)
		if got := observe(t, p); !got.Equal(l.Canonical()) {
			t.Errorf("%+v\n got %+v\nwant %+v\n%s", l, got, l.Canonical(), state(t))
		}
		first := state(t)
		apply(t, p, l)
		if again := state(t); again != first {
			t.Errorf("%+v applied twice changes\n%s\nto\n%s", l, first, again)
		}
		if err := shape.Remove(p); err != nil {
			t.Fatal(err)
		}
		if got := observe(t, p); !got.Equal(shape.Limits{}) {
			t.Errorf("%+v removed leaves %+v", l, got)
		}
		// The ifb devices go with their buckets, so those are left to them.
		if left := withoutDevices(state(t)); left != withoutDevices(before) {
			t.Errorf("%+v removed leaves\n%s", l, left)
		}
	}
}

func withoutDevices(state string) string {
	var kept []string
	for line := range strings.Lines(state) {
		if !strings.Contains(line, "dev ifb-") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestAnyLimitsFollowAnyOthers(t *testing.T) {
	p := newPort(t)
	all := cases()
	random := rand.New(rand.NewPCG(3, 4))
	for range 150 {
		l := all[random.IntN(len(all))]
		apply(t, p, l)
		if got := observe(t, p); !got.Equal(l.Canonical()) {
			t.Fatalf("%+v\n got %+v\nwant %+v\n%s", l, got, l.Canonical(), state(t))
		}
	}
}

func TestLimitsSurviveUp(t *testing.T) {
	p := newPort(t)
	l := shape.Limits{ToGuest: shape.Limit{Rate: 1e6}, FromGuest: shape.Limit{Rate: 2e6}}
	apply(t, p, l)
	run(t, "ip link set port up")
	run(t, "ip link set port down") // old kernels rename nothing that is up
	run(t, "ip link set port name renamed")
	run(t, "ip link set renamed name port up")
	if got := observe(t, p); !got.Equal(l.Canonical()) {
		t.Errorf("got %+v", got)
	}
}

func TestObserveSeesTampering(t *testing.T) {
	plain := shape.Limits{ToGuest: shape.Limit{Rate: 1e7}, FromGuest: shape.Limit{Rate: 1e7}}
	some := plain
	some.UnshapedSubnets = subnets("10.0.0.0/8", "fd00::/8")
	const ours = " handle 6d76: " // by which tc knows what to change
	tests := []struct {
		name    string
		l       shape.Limits
		command string
	}{
		{"bucket to the guest removed", plain, "tc qdisc del dev port root"},
		{"bucket from the guest removed", plain, "tc qdisc del dev ifb-from root"},
		{"rate changed", plain, "tc qdisc change dev port root" + ours + "tbf rate 9mbit burst 25925 limit 58331"},
		{"burst changed", plain, "tc qdisc change dev ifb-from root" + ours + "tbf rate 10369864bit burst 30000 limit 58331"},
		{"queue changed", plain, "tc qdisc change dev port root" + ours + "tbf rate 10369864bit burst 25925 limit 100000"},
		{"another discipline", plain, "tc qdisc replace dev port root handle 1: htb"},
		{"hooks removed", plain, "tc qdisc del dev port clsact"},
		{"redirect removed", plain, "tc filter del dev port ingress pref 50004"},
		{"redirected elsewhere", plain, "tc filter replace dev port ingress pref 50004 protocol all handle 800::800 u32 match u32 0 0 action mirred egress redirect dev ifb-to"},
		{"mirrored only", plain, "tc filter replace dev port ingress pref 50004 protocol all handle 800::800 u32 match u32 0 0 action mirred egress mirror dev ifb-from"},
		{"some excluded", plain, "tc filter add dev port ingress pref 50000 protocol ip u32 match ip dst 10.0.0.0/8"},
		{"subnet removed", some, "tc filter del dev port ingress pref 50000"},
		{"subnet removed, for tagged frames", some, "tc filter del dev port ingress pref 50002"},
		{"subnet removed to the guest", some, "tc filter del dev port egress pref 50011"},
		{"subnet added", some, "tc filter add dev port ingress pref 50000 protocol ip u32 match ip dst 10.0.0.0/7"},
		{"source for destination", some, "tc filter add dev port ingress pref 50000 protocol ip u32 match ip src 11.0.0.0/8"},
		{"source instead of destination", some, "tc filter del dev port ingress pref 50000; tc filter add dev port ingress pref 50000 protocol ip u32 match ip src 10.0.0.0/8 flowid 1:1"},
		{"rest removed", some, "tc filter del dev port egress pref 50012"},
		{"port added", some, "tc filter add dev port ingress pref 50000 protocol ip u32 match ip dport 80 0xffff"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPort(t)
			apply(t, p, test.l)
			if got := observe(t, p); !got.Equal(test.l.Canonical()) {
				t.Fatalf("%+v before anything was done\n%s", got, state(t))
			}
			for command := range strings.SplitSeq(test.command, ";") {
				run(t, command)
			}
			if got := observe(t, p); got.Equal(test.l.Canonical()) {
				t.Errorf("not seen\n%s", state(t))
			}
		})
	}
}

func TestObserveSeesPeakRate(t *testing.T) {
	p := newPort(t)
	apply(t, p, shape.Limits{ToGuest: shape.Limit{Rate: 1e7}})
	all, err := netlink.QdiscList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: p.Index}})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	q, ok := all[0].(*netlink.Tbf)
	if !ok {
		t.Fatalf("the root is %T", all[0])
	}
	q.Peakrate, q.Minburst = 1e9, 2000
	if err := netlink.QdiscChange(q); err != nil {
		t.Fatal(err)
	}
	if got := observe(t, p); !got.Equal(shape.Limits{}) {
		t.Errorf("got %+v", got)
	}
}

func TestSubnetsWithoutBucketAreNoLimit(t *testing.T) {
	p := newPort(t)
	apply(t, p, shape.Limits{FromGuest: shape.Limit{Rate: 1e7}, ShapedSubnets: subnets("10.0.0.0/8")})
	run(t, "tc qdisc del dev ifb-from root")
	if got := observe(t, p); !got.Equal(shape.Limits{}) {
		t.Errorf("got %+v", got)
	}
}

func TestOthersAreLeftAlone(t *testing.T) {
	p := newPort(t)
	run(t, "tc qdisc add dev port clsact")
	run(t, "tc filter add dev port ingress pref 1 protocol ip u32 match ip dst 192.0.2.1/32")
	run(t, "tc filter add dev port egress pref 60000 protocol all u32 match u32 0 0")
	before := withoutDevices(state(t))
	l := shape.Limits{ToGuest: shape.Limit{Rate: 1e6}, FromGuest: shape.Limit{Rate: 1e6}, ShapedSubnets: subnets("10.0.0.0/8")}
	apply(t, p, l)
	if got := observe(t, p); !got.Equal(l.Canonical()) {
		t.Errorf("got %+v", got)
	}
	if err := shape.Remove(p); err != nil {
		t.Fatal(err)
	}
	if after := withoutDevices(state(t)); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func TestApplyRefuses(t *testing.T) {
	both := shape.Limits{ToGuest: shape.Limit{Rate: 1e6}, FromGuest: shape.Limit{Rate: 1e6}}
	for name, command := range map[string]string{
		"a root that is somebody else's": "tc qdisc add dev port root handle 1: htb",
		"an ingress that is not clsact":  "tc qdisc add dev port ingress",
	} {
		t.Run(name, func(t *testing.T) {
			p := newPort(t)
			run(t, command)
			before := withoutDevices(state(t))
			var e *cnierr.Error
			if err := shape.Apply(p, both); !errors.As(err, &e) || e.Code != cnierr.Exists || e.Details == "" {
				t.Errorf("got %v", err)
			}
			if err := shape.Remove(p); err != nil {
				t.Error(err)
			}
			if after := withoutDevices(state(t)); after != before {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
		})
	}
}

func TestMissingLink(t *testing.T) {
	p := newPort(t)
	p.Index = 4711
	if err := shape.Apply(p, shape.Limits{ToGuest: shape.Limit{Rate: 1e6}}); err == nil {
		t.Error("limited a link that is not there")
	}
	if _, err := shape.Observe(p); err == nil {
		t.Error("observed a link that is not there")
	}
}

func TestDevice(t *testing.T) {
	newPort(t)
	if _, err := shape.CreateDevice("ifb-to"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made a device twice: %v", err)
	}
	var e *cnierr.Error
	if err := shape.DeleteDevice("port"); !errors.As(err, &e) || e.Code != cnierr.Exists {
		t.Errorf("delete a veth device: %v", err)
	}
	if err := shape.DeleteDevice("nobody"); err != nil {
		t.Error(err)
	}
	if flags := fmt.Sprint(run(t, "ip -o link show ifb-to")); !strings.Contains(flags, ",UP") {
		t.Errorf("the device is not up: %s", flags)
	}
}
