package attachment

import (
	"net"
	"strings"
	"testing"
)

func TestSplicedTapMAC(t *testing.T) {
	for _, first := range []byte{0x02, 0xfa, 0x00} {
		guest := net.HardwareAddr{first, 0, 0, 0, 0, 1}
		mac := SplicedTapMAC(guest)
		if mac[0]&3 != 2 || mac.String() == guest.String() || mac.String() == PortMAC(guest).String() {
			t.Errorf("of guest %s: %s", guest, mac)
		}
	}
}

func TestPortNames(t *testing.T) {
	one := Attachment{Network: "lab", ContainerID: "vm1", IfName: "eth0"}
	other := one
	other.IfName = "eth1"
	seen := map[string]bool{}
	for _, a := range []Attachment{one, other} {
		for name, prefix := range map[string]string{a.PortName(): PortPrefix, a.InnerName(): InnerPrefix, a.TapName(): TapPrefix} {
			if len(name) != MaxName || !strings.HasPrefix(name, prefix) || seen[name[len(prefix):]] {
				t.Errorf("name %s", name)
			}
			seen[name[len(prefix):]] = true
		}
	}
}

func TestUpperName(t *testing.T) {
	a := Attachment{Network: "lab", ContainerID: "vm1", IfName: "eth0"}
	if name, ok := UpperOf(a.PortName()); !ok || name != a.UpperName() || len(name) != MaxName || !strings.HasPrefix(name, UpperPrefix) {
		t.Errorf("name %q, %v", name, ok)
	}
	for _, name := range []string{"", "eth0", PortPrefix, a.InnerName(), a.UpperName()} {
		if upper, ok := UpperOf(name); ok {
			t.Errorf("port %q has the upper device %s", name, upper)
		}
	}
}
