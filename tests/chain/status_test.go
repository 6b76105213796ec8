package chain

import (
	"fmt"
	"testing"
)

// addresses are so many of a network of somebody's.
func addresses(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("10.9.9.%d", i+1))
	}
	return all
}

// addresses6 are so many IPv6 ones.
func addresses6(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("fd00:9::%d", i+1))
	}
	return all
}

// STATUS says whether an ADD would work now.
func TestStatus(t *testing.T) {
	existing := plain.with(conf{"bridgeMode": "existing"})
	for _, test := range []struct {
		name   string
		plugin conf
		host   string // a shell script that makes the host what it is
		code   uint   // 0: ready
		words  []string
	}{
		{"bridge to be made", plain, "", 0, nil},
		{"bridge is there", plain, "ip link add br0 type bridge", 0, nil},
		{"existing bridge", existing, "ip link add br0 up type bridge", 0, nil},
		{"missing bridge", existing, "", 50, []string{"br0", "does not exist"}},
		{"bridge down", existing, "ip link add br0 type bridge", 50, []string{"br0", "down"}},
		{"no bridge", plain, "ip link add br0 type ifb", 50, []string{"br0", "not a bridge"}},
		{"IPAM missing", plain.with(conf{"ipam": conf{"type": "nowhere"}}), "", 50, []string{"nowhere"}},
		{"IPAM without STATUS", gateway, "", 0, nil},
		{"IPAM not available", plain.with(conf{"ipam": conf{"type": "moody", "code": 50}}), "", 50, []string{"moody", "no"}},
		{"IPAM limited", plain.with(conf{"ipam": conf{"type": "moody", "code": 51}}), "", 51, []string{"moody", "no"}},
		{"IPAM fails otherwise", plain.with(conf{"ipam": conf{"type": "moody", "code": 7}}), "", 50, []string{"moody", "no"}},
		{"IPAM knows no STATUS", plain.with(conf{"ipam": conf{"type": "moody", "code": 4}}), "", 0, nil},
		{"unknown user", tap.with(conf{"owner": "no-such-user"}), "", 7, []string{"no-such-user"}},
		{"no room for addresses", gateway.with(conf{"guard": conf{"addresses": addresses(16)}}), "", 7, []string{"16 IPv4 addresses", "17"}},
		{"room for addresses", gateway.with(conf{"guard": conf{"addresses": addresses(15)}}), "", 0, nil},
		{"room for addresses of the other family", gateway.with(conf{"guard": conf{"addresses": addresses6(15)}}), "", 0, nil},
		{"no room for addresses of a family that IPAM may give", plain.with(conf{"ipam": conf{"type": "moody", "code": 4}, "guard": conf{"addresses": addresses6(16)}}), "", 7, []string{"16 IPv6 addresses", "17"}},
		{"room for addresses, and IPAM does not say of which family", plain.with(conf{"ipam": conf{"type": "moody", "code": 4}, "guard": conf{"addresses": addresses6(15)}}), "", 0, nil},
		{"misspelled key", plain.with(conf{"brigde": "x"}), "", 2, []string{"brigde"}},
		{"no tun", tap, "mount -t tmpfs tmpfs /dev/net", 50, []string{"/dev/net/tun"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.mine = append(h.mine, "br0")
			h.fake("moody", `code=$(printf '%s' "$conf" | sed 's/.*"code":\([0-9]*\).*/\1/')
echo '{"cniVersion":"1.1.0","code":'$code',"msg":"no","details":"because"}'
exit 1`)
			if test.host != "" {
				h.sh(test.host)
			}
			err := h.network("lab", newest, test.plugin).status()
			switch {
			case test.code != 0:
				wantError(t, err, test.code, test.words...)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

// A bridge has 1023 ports: STATUS says so before, ADD when it is too late, and
// the one that did not fit leaves nothing.
func TestFullBridge(t *testing.T) {
	h := newHost(t)
	h.bridge("br0", "")
	n := h.pair(nil)
	// Pairs of veth devices are ports of the cheapest kind: both ends are one.
	const ports = 1023
	script := ""
	for i := range (ports + 1) / 2 {
		script += fmt.Sprintf("link add a%d type veth peer name b%d\nlink set a%d master br0\n", i, i, i)
		if 2*i+1 < ports {
			script += fmt.Sprintf("link set b%d master br0\n", i)
		}
		h.mine = append(h.mine, fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i))
	}
	h.sh("ip -batch - <<'END'\n" + script + "END")
	defer h.sh("ip link del br0")

	wantError(t, n.status(), 50, "br0", "1023")
	v := h.vm("vm1")
	_, err := n.tryAdd(v)
	wantError(t, err, 11, "br0", "1023")
	if leases := h.leases("lab"); len(leases) != 0 {
		t.Errorf("leases are %v", leases)
	}
	n.remove(v)
	if made := h.made(); len(made) != 0 {
		t.Errorf("left behind: %v", made)
	}
}
