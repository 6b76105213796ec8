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

// TestReportedSources counts each source of a group, of which a bridge keeps an entry.
func TestReportedSources(t *testing.T) {
	for n, why := range map[int]string{9: "passed", 10: "multicast-groups"} {
		m := newMachine(t, spec(t), frames.With(frames.Typical, func(r *Rules) { r.GroupLimit = 10 }))
		if _, got := m.judge(t, frames.ReportOf(n)); got.String() != why {
			t.Errorf("MLD with %d sources: %v, want %s", n, got, why)
		}
		m = newMachine(t, spec(t), frames.With(frames.Typical, func(r *Rules) { r.GroupLimit = 10 }))
		if _, got := m.judge(t, frames.Report4Of(n)); got.String() != why {
			t.Errorf("IGMP with %d sources: %v, want %s", n, got, why)
		}
	}
}

// TestGroupLimit counts what a report says, and for one of an older version one.
func TestGroupLimit(t *testing.T) {
	m := newMachine(t, spec(t), frames.With(frames.Typical, func(r *Rules) { r.GroupLimit = 10 }))
	for _, step := range []struct {
		frame []byte
		why   string
	}{
		{frames.Report(143, 11), "multicast-groups"},
		{frames.Report4(0x22, 11), "multicast-groups"},
		{frames.Report(143, 0xffff), "multicast-groups"},
		{frames.Report(143, 4), "passed"},
		{frames.Report4(0x22, 4), "passed"},
		{frames.Report4(0x16, 0xffff), "passed"}, // there it is a part of the group
		{frames.Report(131, 0), "passed"},
		{frames.Report(132, 0), "multicast-groups"},
		{frames.Report4(0x17, 0), "multicast-groups"},
		{frames.Report(143, 0), "multicast-groups"}, // which is a source, by its length
		{frames.OwnARP, "passed"},
	} {
		if _, why := m.judge(t, step.frame); why.String() != step.why {
			t.Errorf("%x: %v, want %s", step.frame, why, step.why)
		}
	}
}
