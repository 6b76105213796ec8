package linkspec

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

func TestCanonical(t *testing.T) {
	tests := []struct {
		name string
		in   Limit
		want Limit
	}{
		{"none", Limit{}, Limit{}},
		{"ten frames at least", Limit{Rate: 1e6}, Limit{Rate: 1e6, Burst: 8 * 15140, Queue: 8 * (3241 + 15140)}},
		{"20 ms", Limit{Rate: 1e8}, Limit{Rate: 1e8, Burst: 8 * 259247, Queue: 8 * (324059 + 131072)}},
		{"as asked for", Limit{Rate: 1e6, Burst: 1e6, Queue: 8e4}, Limit{Rate: 1e6, Burst: 1e6, Queue: 8e4}},
		{"whole bytes", Limit{Rate: 1e6 + 7}, Limit{Rate: 1e6, Burst: 8 * 15140, Queue: 8 * (3241 + 15140)}},
		{"less than a byte", Limit{Rate: 7, Burst: 1e6}, Limit{}},
		// What a runtime may ask for when it means "as much as you like".
		{"more burst than the kernel keeps", Limit{Rate: 1e6, Burst: math.MaxUint32}, Limit{Rate: 1e6, Burst: 8 * 556730, Queue: 8 * (3241 + 131072)}},
		{"a queue beyond 4 GiB", Limit{Rate: 1e15, Burst: 1e6, Queue: 1e12}, Limit{Rate: 1e15, Burst: 66367120, Queue: 8 * math.MaxUint32}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.in.canonical(); got != test.want {
				t.Errorf("%+v\n got %+v\nwant %+v", test.in, got, test.want)
			}
		})
	}
}

// What is observed must be what was declared, for every number that there is.
func TestCanonicalIsStable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		l := Limit{
			Rate:  random.Uint64N(1 << (3 + random.UintN(47))),
			Burst: random.Uint64N(1 << (1 + random.UintN(40))),
			Queue: random.Uint64N(1 << (1 + random.UintN(36))),
		}
		c := l.canonical()
		if again := c.canonical(); again != c {
			t.Fatalf("%+v becomes %+v, and that %+v", l, c, again)
		}
		if l.Rate >= 8 && c.Rate != l.Rate/8*8 {
			t.Fatalf("rate %d becomes %d", l.Rate, c.Rate)
		}
		if c.Burst < l.Burst/8*8 && l.Bucket().Depth != mostTicks && l.Rate >= 8 {
			t.Fatalf("burst %d becomes %d at rate %d", l.Burst, c.Burst, l.Rate)
		}
	}
}

func TestCanonicalSubnets(t *testing.T) {
	l := Limits{
		FromGuest:     Limit{Rate: 1e6},
		ShapedSubnets: subnets("fd00::1/8", "10.1.2.3/8", "10.0.0.0/8", "0.0.0.0/0"),
	}
	want := subnets("0.0.0.0/0", "10.0.0.0/8", "fd00::/8")
	if got := l.Canonical(); !got.Equal(Limits{FromGuest: l.FromGuest.canonical(), ShapedSubnets: want}) {
		t.Errorf("got %v, want %v", got.ShapedSubnets, want)
	}
	if got := (Limits{ShapedSubnets: want}).Canonical(); !got.Equal(Limits{}) {
		t.Errorf("no rate, and yet %+v", got)
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name string
		l    Limits
		mtu  int
		want string // "" for none
	}{
		{"nothing", Limits{}, 1500, ""},
		{"rates alone", Limits{ToGuest: Limit{Rate: 1e6}, FromGuest: Limit{Rate: 1e10}}, 1500, ""},
		{"largest burst that runtimes send", Limits{ToGuest: Limit{Rate: 1e6, Burst: math.MaxUint32}}, 1500, ""},
		{"one frame", Limits{ToGuest: Limit{Rate: 1e6, Burst: 12144}}, 1500, ""},
		{"jumbo frames", Limits{FromGuest: Limit{Rate: 1e6}}, 9000, ""},
		{"less than a frame", Limits{ToGuest: Limit{Rate: 1e6, Burst: 12143}}, 1500, "ingressBurst 12143 is less than a frame of MTU 1500, which has 12144 bits: no full frame would ever pass"},
		{"burst in bytes", Limits{FromGuest: Limit{Rate: 1e6, Burst: 9018}}, 9000, "egressBurst 9018 is less than a frame of MTU 9000, which has 72144 bits: no full frame would ever pass"},
		{"burst alone", Limits{FromGuest: Limit{Burst: 1e6}}, 1500, "egressBurst is set, but egressRate is not"},
		{"too slow", Limits{FromGuest: Limit{Rate: 2000}}, 1500, "egressRate 2000 is too slow: a frame of MTU 1500 would take longer than the 4 seconds that the kernel can measure"},
		{"no byte a second", Limits{FromGuest: Limit{Rate: 7}}, 1500, "egressRate 7 is out of range"},
		{"too fast", Limits{ToGuest: Limit{Rate: math.MaxUint64}}, 1500, "ingressRate 18446744073709551615 is out of range"},
		{"short queue", Limits{ToGuest: Limit{Rate: 1e6, Queue: 8000}}, 1500, "the queue of ingressRate is shorter than a frame of MTU 1500"},
		{"both lists", Limits{ShapedSubnets: subnets("10.0.0.0/8"), UnshapedSubnets: subnets("fd00::/8")}, 1500, "shapedSubnets and unshapedSubnets exclude each other"},
		{"no subnet", Limits{UnshapedSubnets: []netip.Prefix{{}}}, 1500, "invalid Prefix is no subnet to limit the bandwidth of"},
		{"mapped address", Limits{ShapedSubnets: subnets("::ffff:10.0.0.0/104")}, 1500, "::ffff:10.0.0.0/104 is no subnet to limit the bandwidth of"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.l.Check(test.mtu)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *cnierr.Error
			if !errors.As(err, &e) || e.Code != cnierr.Config || e.Details == "" || e.Msg != test.want {
				t.Errorf("got %#v\nwant message %q", err, test.want)
			}
		})
	}
}

func TestDevices(t *testing.T) {
	both := Limits{ToGuest: Limit{Rate: 1e6}, FromGuest: Limit{Rate: 1e6}}
	some := both
	some.UnshapedSubnets = subnets("10.0.0.0/8")
	tests := []struct {
		name     string
		l        Limits
		to, from bool
	}{
		{"nothing", Limits{}, false, false},
		{"to the guest", Limits{ToGuest: both.ToGuest}, false, false},
		{"both", both, false, true},
		{"some of both", some, true, true},
		{"some of nothing", Limits{ShapedSubnets: some.UnshapedSubnets}, false, false},
	}
	for _, test := range tests {
		if to, from := test.l.Devices(); to != test.to || from != test.from {
			t.Errorf("%s: got %t, %t", test.name, to, from)
		}
	}
}

func subnets(all ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range all {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// Ten frames fit into a default burst, however long they are.
func TestDefaultBurstSuitsTheMTU(t *testing.T) {
	for _, mtu := range []int{68, 1500, 9000, 65521} {
		l := Limit{Rate: 1e6}.suited(mtu)
		if want := uint64(8 * 10 * (mtu + 14)); l.Burst < want {
			t.Errorf("MTU %d: a burst of %d, want %d", mtu, l.Burst, want)
		}
		if err := (Limits{ToGuest: Limit{Rate: 1e6}}).Check(mtu); err != nil {
			t.Errorf("MTU %d: %v", mtu, err)
		}
	}
}
