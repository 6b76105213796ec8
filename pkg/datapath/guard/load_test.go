package guard

import (
	"net"
	"net/netip"
	"testing"
)

var typical = Rules{
	MACs:       []net.HardwareAddr{{2, 0, 0, 0, 0, 0x11}},
	Addresses:  []netip.Prefix{netip.MustParsePrefix("10.1.0.11/32"), netip.MustParsePrefix("fd00:1::11/128")},
	Gateways:   []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")},
	StormLimit: 1000,
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := loadProgram(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	spec, err := loadProgram()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := load(spec, typical.Canonical())
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}
