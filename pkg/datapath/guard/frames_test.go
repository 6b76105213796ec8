package guard

import (
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

func spec(t testing.TB) *tcbpf.Object {
	t.Helper()
	s, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAttacks(t *testing.T) { try(t, attacks) }

func TestLegitimate(t *testing.T) { try(t, legitimate) }

// try runs each frame twice: as it is, and as a GSO frame.
func try(t *testing.T, attempts []attempt) {
	seen := map[string]bool{}
	for _, a := range attempts {
		if seen[a.name] {
			t.Errorf("two are called %q", a.name)
		}
		seen[a.name] = true
		t.Run(a.name, func(t *testing.T) {
			m := newMachine(t, spec(t), a.rules)
			for _, gso := range []uint32{0, 500} {
				m.ctx.gsoSize, m.ctx.gsoSegs = gso, gso/250
				if wireOnly(a) {
					continue
				}
				if _, why := m.judge(t, a.frame); why.String() != a.by {
					t.Errorf("%v, not %s (gso_size %d)", why, a.by, gso)
				}
			}
			if allowed := allows(a.rules, a.frame); allowed != (a.by == "passed") {
				t.Errorf("the oracle says %v", allowed)
			}
		})
	}
}

// wireOnly tells whether the kernel refuses to run a program on a frame, for its
// IP header is not there in full. TestWire sends those.
func wireOnly(a attempt) bool { return a.by == "truncated-ip4" || a.by == "truncated-ip6" }
