// Package compat holds what our plugins answer against the code of runtimes. It
// is a module of its own, so that their dependencies stay out of the plugins'.
package compat

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	firecracker "github.com/firecracker-microvm/firecracker-go-sdk/cni/vmconf"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// Interfaces and addresses that results are put together from.
const (
	bridge = `{"name": "br0", "mac": "02:00:00:00:bb:00"}`
	tap    = `{"name": "eth0", "mac": "fa:00:00:00:00:01", "sandbox": "/run/netns/vm1"}`
	guest  = `{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "vm1"}`
	port   = `{"name": "mvp-a", "mac": "fe:00:00:00:00:01"}`
	onHost = `{"name": "eth0", "mac": "fe:00:00:00:00:01"}`

	ip4      = `{"interface": 2, "address": "10.1.0.2/16", "gateway": "10.1.0.1"}`
	ip6      = `{"interface": 2, "address": "fd00:1::2/64", "gateway": "fd00:1::1"}`
	ip6OnTap = `{"interface": 1, "address": "fd00:1::2/64", "gateway": "fd00:1::1"}`
)

func answer(t *testing.T, interfaces, ips []string) types.Result {
	t.Helper()
	text := fmt.Sprintf(`{"cniVersion": "1.0.0", "interfaces": [%s], "ips": [%s],
		"routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}], "dns": {"nameservers": ["10.1.0.1", "9.9.9.9"], "domain": "lab.test", "search": ["a.test"], "options": ["ndots:2"]}}`,
		strings.Join(interfaces, ","), strings.Join(ips, ","))
	r, err := create.CreateFromBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// host is where both parsers run: vm1 is a namespace with a tap in it.
func host(t *testing.T) *sandbox.Host {
	t.Helper()
	// Parallel, for open files are not counted then: firecracker-go-sdk leaves the namespace open.
	h := sandbox.NewHost(t, sandbox.LinksMayStay, sandbox.Parallel)
	h.NewNetns("vm1")
	h.Do(func() {
		script := "ip -n vm1 tuntap add eth0 mode tap && ip -n vm1 link set eth0 mtu 1400 && ip tuntap add eth0 mode tap"
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	return h
}

var attachment = vmconf.Attachment{ContainerID: "vm1", IfName: "eth0", Netns: "/run/netns/vm1"}

// Both parsers agree about results of a tap in CNI_NETNS, and refuse the same
// ones, but for what firecracker-go-sdk cannot do and we can.
func TestFirecrackerGoSDK(t *testing.T) {
	h := host(t)
	for _, c := range []struct {
		name       string
		interfaces []string
		ips        []string
		theirs     string // in firecracker-go-sdk's error
		ours       bool   // vmconf takes it
	}{
		{"IPv4", []string{bridge, tap, guest, port}, []string{ip4}, "", true},
		{"both families", []string{bridge, tap, guest, port}, []string{ip4, ip6OnTap}, "", true},
		{"IPv6 bound to the guest's NIC too", []string{bridge, tap, guest, port}, []string{ip4, ip6}, "expected to find 1 IP", true},
		{"no address", []string{bridge, tap, guest, port}, nil, "expected to find 1 IP", true},
		{"tap on the host", []string{bridge, onHost, guest}, []string{ip4}, "failed to find netns", true},
		{"no guest's NIC", []string{bridge, tap, port}, nil, "did not find", false},
		{"no tap", []string{bridge, port, guest}, []string{ip4}, "did not find", false},
		{"two guest's NICs", []string{bridge, tap, guest, guest}, []string{ip4}, "at most 1 interface in sandbox", false},
		{"two taps", []string{bridge, tap, guest, onHost}, []string{ip4}, "at most 1 interface with name", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := answer(t, c.interfaces, c.ips)
			h.Do(func() {
				theirs, err := firecracker.StaticNetworkConfFrom(r, attachment.ContainerID)
				if (err == nil) != (c.theirs == "") || err != nil && !strings.Contains(err.Error(), c.theirs) {
					t.Errorf("firecracker-go-sdk: %v, want an error about %q", err, c.theirs)
				}
				ours, err := vmconf.Parse(r, attachment)
				var pairing *vmconf.PairingError
				if (err == nil) != c.ours || err != nil && !errors.As(err, &pairing) {
					t.Errorf("vmconf: %v, want it to be taken: %v", err, c.ours)
				}
				if theirs != nil && ours != nil {
					same(t, theirs, ours)
				}
			})
		})
	}
}

// same fails the test unless both parsers read the same.
func same(t *testing.T, theirs *firecracker.StaticNetworkConf, ours *vmconf.NIC) {
	t.Helper()
	mtu, err := vmconf.TapMTU(ours.Tap, ours.Netns)
	if err != nil {
		t.Error(err)
	}
	_, request, err := ours.Firecracker("")
	if err != nil {
		t.Error(err)
	}
	var routes []string
	for _, r := range theirs.VMRoutes {
		routes = append(routes, r.Dst.String()+" "+r.GW.String())
	}
	var ourRoutes []string
	for _, r := range ours.Routes {
		ourRoutes = append(ourRoutes, r.Dst.String()+" "+r.Via.String())
	}
	address := net.IPNet{IP: ours.Addresses[0].Prefix.Addr().AsSlice(), Mask: net.CIDRMask(ours.Addresses[0].Prefix.Bits(), 32)}
	for _, c := range []struct {
		what         string
		theirs, ours any
	}{
		{"tap", theirs.TapName, ours.Tap},
		{"namespace", theirs.NetNSPath, ours.Netns},
		{"MAC", theirs.VMMacAddr, ours.MAC.String()},
		{"MTU", theirs.VMMTU, mtu},
		{"address", theirs.VMIPConfig.Address.String(), address.String()},
		{"gateway", theirs.VMIPConfig.Gateway.String(), ours.Addresses[0].Gateway.String()},
		{"routes", routes, ourRoutes},
		{"name servers", theirs.VMNameservers, ours.DNS.Nameservers},
		{"domain", theirs.VMDomain, ours.DNS.Domain},
		{"search list", theirs.VMSearchDomains, ours.DNS.Search},
		{"options", theirs.VMResolverOptions, ours.DNS.Options},
		{"request", fmt.Sprintf(`{"iface_id":"eth0","guest_mac":%q,"host_dev_name":%q}`, theirs.VMMacAddr, theirs.TapName), string(request)},
	} {
		if fmt.Sprint(c.theirs) != fmt.Sprint(c.ours) {
			t.Errorf("%s: firecracker-go-sdk reads %v, vmconf %v", c.what, c.theirs, c.ours)
		}
	}
	// Theirs has all fields, ours those up to the last that is not empty.
	theirs.VMIfName = "eth0"
	boot, err := ours.KernelIP("eth0")
	if want := "ip=" + strings.TrimRight(theirs.IPBootParam(), ":"); err != nil || boot != want {
		t.Errorf("got %s, %v, firecracker-go-sdk has %s", boot, err, want)
	}
}
