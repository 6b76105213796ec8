package guard

import (
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/frames"
)

func spec(t testing.TB) *tcbpf.Object {
	t.Helper()
	s, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAttacks(t *testing.T) { try(t, frames.Attacks) }

func TestLegitimate(t *testing.T) { try(t, frames.Legitimate) }

// try runs each frame twice: as it is, and as a GSO frame.
func try(t *testing.T, attempts []frames.Attempt) {
	seen := map[string]bool{}
	for _, a := range attempts {
		if seen[a.Name] {
			t.Errorf("two are called %q", a.Name)
		}
		seen[a.Name] = true
		t.Run(a.Name, func(t *testing.T) {
			m := newMachine(t, spec(t), a.Rules)
			for _, gso := range []uint32{0, 500} {
				m.ctx.gsoSize, m.ctx.gsoSegs = gso, gso/250
				if wireOnly(a) {
					continue
				}
				want := a.By
				if several := notASegment(a); gso != 0 && want == passed.String() && several != "" {
					want = several
				}
				if _, why := m.judge(t, a.Frame); why.String() != want {
					t.Errorf("%v, not %s (gso_size %d)", why, want, gso)
				}
			}
			if allowed := allows(a.Rules, a.Frame); allowed != (a.By == "passed") {
				t.Errorf("the oracle says %v", allowed)
			}
		})
	}
}

// wireOnly tells whether the kernel refuses to run a program on a frame, for its
// IP header is not there in full. TestWire sends those.
func wireOnly(a frames.Attempt) bool { return a.By == "truncated-ip4" || a.By == "truncated-ip6" }
