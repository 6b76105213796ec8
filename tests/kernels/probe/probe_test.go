// Package probe tells what the running kernel can do of the things that the
// plugins, their tests and their peers are about. Each answer is an attribute of
// its test (testing.T.Attr), from which tests/kernels makes a table.
package probe

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// need tells on which kernels it is a failure that a capability is missing.
type need int

const (
	everywhere need = iota // the plugins do not work without
	onDebian               // the tests on Debian's kernels would show nothing without
	nowhere                // something else is done without, or nothing asks for it yet
)

// capability is something that a kernel can do or not.
type capability struct {
	name   string
	need   need
	since  [2]int // first kernel that has it, if later than 5.10
	script string // succeeds on a host with a bridge br0 and its ports tap0 and tap1, when the kernel can; or
	try    func() error
}

var capabilities = []capability{
	{name: "tun", script: "ip tuntap add tap7 mode tap"},
	{name: "tun_multi_queue", script: "ip tuntap add tap7 mode tap multi_queue"},
	{name: "tun_owner_and_group", script: "ip tuntap add tap7 mode tap user 1 group 2"},
	{name: "altname", script: "ip link property add dev tap0 altname a-name-of-more-than-15-bytes"},
	{name: "alias", script: "ip link set tap0 alias tag"},
	{name: "veth", script: "ip link add name veth7 type veth peer name veth8"},
	{name: "ipv6", script: "ip address add fd00::1/64 dev br0 nodad"},
	{name: "port_isolated", script: flags("isolated on")},
	{name: "port_hairpin", script: flags("hairpin on")},
	{name: "port_no_learning", script: flags("learning off")},
	{name: "port_no_flood", script: flags("flood off", "mcast_flood off", "bcast_flood off")},
	{name: "port_bpdu_guard", script: flags("guard on", "root_block on")},
	{name: "port_mcast_router", script: flags("mcast_router 0")},
	{name: "port_locked", need: onDebian, since: [2]int{5, 18}, script: flags("locked on")},
	{name: "fdb_static_sticky", script: "bridge fdb add 02:00:00:00:00:01 dev tap0 master static sticky"},
	{name: "bridge_vlan_filtering", need: onDebian, script: `ip link set br0 type bridge vlan_filtering 1
		bridge vlan add vid 100 dev tap0 pvid untagged
		bridge vlan add vid 200-210 dev tap1
		bridge -d vlan show dev tap1 | grep -q 210`},
	{name: "vlan_device", need: onDebian, script: "ip link add link br0 name br0.100 type vlan id 100"},
	{name: "br_netfilter", need: onDebian, script: "test -f /proc/sys/net/bridge/bridge-nf-call-iptables"},
	{name: "dummy", need: onDebian, script: "ip link add name dummy7 type dummy"},
	{name: "ifb", need: onDebian, script: "ip link add name ifb7 type ifb"},
	{name: "macvtap", need: onDebian, script: "ip link add link br0 name macvtap7 type macvtap"},
	{name: "vrf", need: nowhere, script: "ip link add name vrf7 type vrf table 7"},
	{name: "tbf", need: onDebian, script: "tc qdisc add dev tap0 root tbf rate 1mbit burst 16k latency 25ms"},
	{name: "htb", need: onDebian, script: `tc qdisc add dev tap0 root handle 1: htb default 1
		tc class add dev tap0 parent 1: classid 1:1 htb rate 1mbit`},
	{name: "fq_codel", need: onDebian, script: "tc qdisc add dev tap0 root fq_codel"},
	{name: "netem", need: onDebian, script: "tc qdisc add dev tap0 root netem delay 1ms"},
	{name: "ingress_u32_police", need: onDebian, script: `tc qdisc add dev tap0 ingress
		tc filter add dev tap0 parent ffff: protocol all prio 1 u32 match u32 0 0 police rate 1mbit burst 16k drop`},
	{name: "ingress_u32_mirred", need: onDebian, script: `tc qdisc add dev tap0 ingress
		tc filter add dev tap0 parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev tap1`},
	{name: "ingress_matchall_police", need: onDebian, script: `tc qdisc add dev tap0 clsact
		tc filter add dev tap0 ingress matchall action police rate 1mbit burst 16k`},
	{name: "clsact_bpf", need: everywhere, script: `tc qdisc add dev tap0 clsact
		tc filter add dev tap0 ingress bpf direct-action bytecode '1,6 0 0 0'`},
	{name: "bpf_load", try: loadBPF},
	{name: "bpf_redirect_peer", try: func() error { return loadHelper(155) }},
	{name: "bpf_probe_read_kernel", need: onDebian, try: readKernel},
	{name: "bpf_tcx", need: onDebian, since: [2]int{6, 6}, try: attachTCX},
	{name: "btf", need: onDebian, script: "test -s /sys/kernel/btf/vmlinux"},
	{name: "nft_inet_filter", need: onDebian, try: nft(unix.NFPROTO_INET, "filter", unix.NF_INET_FORWARD)},
	{name: "nft_ip_nat", need: onDebian, try: nft(unix.NFPROTO_IPV4, "nat", unix.NF_INET_POST_ROUTING)},
	{name: "nft_ip6_nat", need: onDebian, try: nft(unix.NFPROTO_IPV6, "nat", unix.NF_INET_POST_ROUTING)},
	{name: "nft_inet_nat", need: onDebian, try: nft(unix.NFPROTO_INET, "nat", unix.NF_INET_POST_ROUTING)},
	{name: "nft_bridge_filter", need: onDebian, try: nft(unix.NFPROTO_BRIDGE, "filter", unix.NF_INET_PRE_ROUTING)},
}

// flags is a script that sets flags of a port and reads them back: a kernel that
// does not know one ignores it.
func flags(flags ...string) string {
	script := "ip link set tap0 type bridge_slave " + strings.Join(flags, " ")
	for _, flag := range flags {
		script += "\nip -d link show tap0 | grep -q ' " + flag + " '"
	}
	return script
}

func TestCapabilities(t *testing.T) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	debian := strings.Contains(unix.ByteSliceToString(uts.Version[:]), "Debian")
	t.Attr("_release", release)
	var version [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &version[0], &version[1]); err != nil {
		t.Fatalf("read release %q: %v", release, err)
	}
	for _, c := range capabilities {
		t.Run(c.name, func(t *testing.T) {
			err := c.probe(t)
			switch {
			case err == nil:
				t.Attr(c.name, "yes")
				return
			case c.need == everywhere || c.need == onDebian && debian && !before(version, c.since):
				t.Errorf("kernel %s cannot: %v", release, err)
			default:
				t.Logf("kernel %s cannot: %v", release, err)
			}
			t.Attr(c.name, "no")
		})
	}
}

func before(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

// probe tries the capability on a host of its own.
func (c capability) probe(t *testing.T) (err error) {
	t.Helper()
	host := sandbox.NewHost(t, sandbox.LinksMayStay)
	host.Do(func() {
		const ports = `ip link add br0 type bridge
			ip tuntap add tap0 mode tap
			ip tuntap add tap1 mode tap
			ip link set tap0 master br0
			ip link set tap1 master br0`
		if err = sh(ports); err != nil {
			t.Fatalf("make bridge: %v", err)
		}
		if c.try != nil {
			err = c.try()
		} else {
			err = sh(c.script)
		}
	})
	return err
}

func sh(script string) error {
	cmd := exec.Command("sh", "-ec", script)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
