package vmconf

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func nic(t *testing.T, text string) *NIC {
	t.Helper()
	n, err := Parse(parsed(t, text), vm1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// inexpressible fails the test unless the error says that the format cannot hold it.
func inexpressible(t *testing.T, err error, words string) {
	t.Helper()
	var e *InexpressibleError
	if !errors.As(err, &e) || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v, want one about %q", err, words)
	}
}

func TestKernelIP(t *testing.T) {
	for _, c := range []struct{ name, text, device, want string }{
		{"all", onHost, "eth0", "ip=10.1.0.2::10.1.0.1:255.255.0.0::eth0:off:10.1.0.1:9.9.9.9"},
		{"the only device", inNetns, "", "ip=10.1.0.2::10.1.0.1:255.255.0.0:::off"},
		{"no default route", namedInNetns, "eth0", "ip=10.1.0.2:::255.255.0.0::eth0:off"},
		{"three name servers", change(t, onHost, `"fd00:1::1", "9.9.9.9"`, `"9.9.9.9", "8.8.8.8"`), "eth0", "ip=10.1.0.2::10.1.0.1:255.255.0.0::eth0:off:10.1.0.1:9.9.9.9"},
		{"IPv4 written as IPv6", change(t, namedInNetns, `"10.1.0.2/16"`, `"::ffff:10.1.0.2/112"`), "eth0", "ip=10.1.0.2:::255.255.0.0::eth0:off"},
		{
			"routes that do not count",
			change(t, onHost, `{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}`, `{"dst": "0.0.0.0/0", "table": 7}, {"dst": "0.0.0.0/0", "scope": 253}`),
			"", "ip=10.1.0.2:::255.255.0.0:::off:10.1.0.1:9.9.9.9",
		},
	} {
		got, err := nic(t, c.text).KernelIP(c.device)
		if err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, err, c.want)
		}
	}
	for _, c := range []struct{ text, device, want string }{
		{withoutAddresses, "eth0", "no IPv4 address"},
		{change(t, onHost, `10.1.0.2/16`, `10.1.0.2/32`), "eth0", "not in the subnet"},
		{onHost, "eth0:1", "no name"},
		{onHost, "eth0 init=/bin/sh", "no name"},
	} {
		_, err := nic(t, c.text).KernelIP(c.device)
		inexpressible(t, err, c.want)
	}
}

func TestCloudInit(t *testing.T) {
	text, err := CloudInit(map[string]*NIC{"eth0": nic(t, onHost)})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":2,"ethernets":{"eth0":{"match":{"macaddress":"02:00:00:00:00:01"},"set-name":"eth0","mtu":1400,` +
		`"addresses":["10.1.0.2/16","fd00:1::2/64"],"routes":[{"to":"0.0.0.0/0","via":"10.1.0.1"},{"to":"::/0","via":"fd00:1::1"},` +
		`{"to":"10.9.0.0/16","via":"10.1.0.9","metric":7,"mtu":1300,"table":5}],` +
		`"nameservers":{"addresses":["10.1.0.1","fd00:1::1","9.9.9.9"],"search":["lab.test","a.test","b.test"]}}}}`
	var a, b any
	if err = errors.Join(json.Unmarshal(text, &a), json.Unmarshal([]byte(want), &b)); err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(a); string(got) != string(must(json.Marshal(b))) {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	_, err = CloudInit(map[string]*NIC{"eth0": nic(t, onHost), "eth1": nic(t, inNetns)})
	inexpressible(t, err, "eth0 and eth1")
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// A gateway that the guest would not look for on its link is said to be there.
func TestGatewayOutsideOfTheSubnet(t *testing.T) {
	n := nic(t, change(t, onHost, "10.1.0.2/16", "10.1.0.2/32"))
	n.Routes = append(n.Routes,
		Route{Dst: netip.MustParsePrefix("2001:db8::/32"), Via: netip.MustParseAddr("fe80::1")},
		Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.MustParseAddr("169.254.1.1")},
		Route{Dst: netip.MustParsePrefix("10.8.0.0/16")}, Route{Dst: netip.MustParsePrefix("10.7.0.0/16"), Scope: new(254)})
	var got []string
	for _, r := range n.Routes {
		got = append(got, string(must(json.Marshal(n.networkRoute(r)))))
	}
	want := []string{
		`{"to":"0.0.0.0/0","via":"10.1.0.1","on-link":true}`,
		`{"to":"::/0","via":"fd00:1::1"}`,
		`{"to":"10.9.0.0/16","via":"10.1.0.9","on-link":true,"metric":7,"mtu":1300,"table":5}`,
		`{"to":"2001:db8::/32","via":"fe80::1"}`,
		`{"to":"192.0.2.0/24","via":"169.254.1.1","on-link":true}`,
		`{"to":"10.8.0.0/16","scope":"link"}`,
		`{"to":"10.7.0.0/16","scope":"host"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, line := range []string{"GatewayOnLink=yes", "Scope=link", "Scope=host"} {
		if !strings.Contains(n.Networkd(), line+"\n") {
			t.Errorf("no %s in\n%s", line, n.Networkd())
		}
	}
}

func TestNetworkd(t *testing.T) {
	want := `[Match]
MACAddress=02:00:00:00:00:01

[Link]
MTUBytes=1400

[Network]
Address=10.1.0.2/16
Address=fd00:1::2/64
DNS=10.1.0.1
DNS=fd00:1::1
DNS=9.9.9.9
Domains=lab.test a.test b.test

[Route]
Destination=0.0.0.0/0
Gateway=10.1.0.1

[Route]
Destination=::/0
Gateway=fd00:1::1

[Route]
Destination=10.9.0.0/16
Gateway=10.1.0.9
Metric=7
MTUBytes=1300
TCPAdvertisedMaximumSegmentSize=1200
Table=5
`
	if got := nic(t, onHost).Networkd(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQEMU(t *testing.T) {
	for _, c := range []struct {
		name, text string
		o          QEMU
		want       string
	}{
		{
			"usual", onHost,
			QEMU{},
			"-netdev tap,id=net0,ifname=mvt-a,script=no,downscript=no -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,host_mtu=1400",
		},
		{
			"MTU not known", inNetns,
			QEMU{Device: "virtio-net-device", ID: "n1"},
			"-netdev tap,id=n1,ifname=eth0,script=no,downscript=no -device virtio-net-device,netdev=n1,mac=02:00:00:00:00:01",
		},
		{
			"queues", inNetns,
			QEMU{Queues: 2, Vhost: true},
			"-netdev tap,id=net0,ifname=eth0,script=no,downscript=no,queues=2,vhost=on -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,mq=on,vectors=6",
		},
		{
			"queues without a bus", inNetns,
			QEMU{Queues: 2, Device: "virtio-net-device"},
			"-netdev tap,id=net0,ifname=eth0,script=no,downscript=no,queues=2 -device virtio-net-device,netdev=net0,mac=02:00:00:00:00:01,mq=on",
		},
		{
			"a name with commas", strings.ReplaceAll(withoutAddresses, "tap1", "a,b=c"),
			QEMU{},
			"-netdev tap,id=net0,ifname=a,,b=c,script=no,downscript=no -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01",
		},
	} {
		got, err := nic(t, c.text).QEMU(c.o)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %s, %v\nwant %s", c.name, strings.Join(got, " "), err, c.want)
		}
	}
	_, err := nic(t, onHost).QEMU(QEMU{Queues: -1})
	inexpressible(t, err, "queues")
}

func TestFirecracker(t *testing.T) {
	path, body, err := nic(t, inNetns).Firecracker("")
	if err != nil || path != "/network-interfaces/eth0" || string(body) != `{"iface_id":"eth0","guest_mac":"02:00:00:00:00:01","host_dev_name":"eth0"}` {
		t.Errorf("got %s %s, %v", path, body, err)
	}
	if path, _, err := nic(t, inNetns).Firecracker("nic_2"); err != nil || path != "/network-interfaces/nic_2" {
		t.Errorf("got %s, %v", path, err)
	}
	for _, id := range []string{"a-b", "../a", "ä"} {
		_, _, err := nic(t, inNetns).Firecracker(id)
		inexpressible(t, err, id)
	}
}

func TestCloudHypervisor(t *testing.T) {
	for _, c := range []struct {
		text  string
		pairs int
		want  string
	}{
		{onHost, 1, "tap=mvt-a,mac=02:00:00:00:00:01"},
		{withoutAddresses, 2, "tap=tap1,mac=02:00:00:00:00:01,num_queues=4"},
	} {
		if got, err := nic(t, c.text).CloudHypervisor(c.pairs); err != nil || got != c.want {
			t.Errorf("got %s, %v, want %s", got, err, c.want)
		}
	}
	_, err := nic(t, strings.ReplaceAll(withoutAddresses, "tap1", "a,b")).CloudHypervisor(1)
	inexpressible(t, err, "a,b")
}

// Of several default routes the kernel takes that with the lowest metric.
func TestKernelIPTakesTheLowestMetric(t *testing.T) {
	n := nic(t, onHost)
	n.Routes = []Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.8"), Priority: 9},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.7"), Priority: 3},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.6"), Priority: 5},
	}
	if got, err := n.KernelIP("eth0"); err != nil || !strings.Contains(got, "::10.1.0.7:") {
		t.Errorf("got %s, %v", got, err)
	}
}

// What no guest can have is not read.
func TestParseRefusesNonsense(t *testing.T) {
	for old, nonsense := range map[string]string{
		`"02:00:00:00:00:01", "mtu": 1400, "sandbox": "vm1"`: `"ff:ff:ff:ff:ff:ff", "mtu": 1400, "sandbox": "vm1"`,
		`"mtu": 1400, "sandbox": "vm1"`:                      `"mtu": 70000, "sandbox": "vm1"`,
		`"interface": 2, "address": "10.1.0.2/16"`:           `"interface": 2, "address": "0.0.0.0/0"`,
		`"interface": 2, "address": "fd00:1::2/64"`:          `"interface": 2, "address": "ff02::1/64"`,
	} {
		if n, err := Parse(parsed(t, change(t, onHost, old, nonsense)), vm1); err == nil {
			t.Errorf("%s gives %+v", nonsense, n)
		}
	}
}
