package plan

import (
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

// guardOf is the guard of a guest's port, as text.
func guardOf(t *testing.T, keys, lease string) string {
	t.Helper()
	s, _, err := settle(t, keys, lease, Facts{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.Links {
		if l.Guard != nil {
			return strings.Join(l.Guard.Texts(), "\n") + "\n"
		}
	}
	t.Fatal("no port is guarded")
	return ""
}

func TestGuard(t *testing.T) {
	const ranges = `"ipam":{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"10.7.0.0/24"}]]}`
	const lease = `{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.5/24","gateway":"10.0.0.1"}]}`
	for _, c := range []struct {
		name, keys string
		has, lacks []string
	}{
		{"as usual", ranges, []string{"subnets 10.0.0.0/24\n", "host all\n"}, []string{"10.7.0.0", "via", "vrrp"}},
		{"isolated from the other range", ranges + `,"guard":{"isolate":true}`, []string{"isolated\n", "subnets 10.0.0.0/24 10.7.0.0/24\n"}, nil},
		{"by the port's flag, too", ranges + `,"portIsolation":true`, []string{"subnets 10.0.0.0/24 10.7.0.0/24\n"}, nil},
		{"a closed host", ranges + `,"guard":{"hostAccess":"none"}`, []string{"host none\n", "via br0\n"}, nil},
		{"link-local addresses", ranges + `,"guard":{"addresses":["fe80::/64"]}`, []string{"host all\n", "via br0\n"}, []string{"vrrp"}},
		{"a container's subnet", ranges + `,"guard":{"addresses":["10.9.0.0/24"]}`, nil, []string{"via", "vrrp"}},
		{"an address to take over", ranges + `,"guard":{"addresses":["10.0.0.99"]}`, []string{"vrrp\n"}, nil},
		{"another MAC", ranges + `,"guard":{"macs":["02:00:00:00:00:99"]}`, nil, []string{"vrrp"}},
		{"a virtual router's", ranges + `,"guard":{"macs":["00:00:5e:00:01:07"]}`, []string{"vrrp\n"}, nil},
		{"a virtual router's, IPv6", ranges + `,"guard":{"macs":["00:00:5e:00:02:07"]}`, []string{"vrrp\n"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := guardOf(t, c.keys, lease)
			for _, text := range c.has {
				if !strings.Contains(got, text) {
					t.Errorf("no %q in\n%s", text, got)
				}
			}
			for _, text := range c.lacks {
				if strings.Contains(got, text) {
					t.Errorf("%q in\n%s", text, got)
				}
			}
		})
	}
	many := `{"subnet":"10.1.0.0/24"},`
	for i := range linkspec.MaxGuardSubnets {
		many += `{"subnet":"10.8.` + string(rune('0'+i)) + `.0/24"},`
	}
	_, _, err := settle(t, `"portIsolation":true,"ipam":{"type":"host-local","ranges":[[`+many+`{"subnet":"10.0.0.0/24"}]]}`, lease, Facts{})
	if err == nil || !strings.Contains(err.Error(), "subnets at most") {
		t.Errorf("more subnets than the guard holds: error %v", err)
	}
}
