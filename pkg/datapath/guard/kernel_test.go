package guard

import (
	"testing"

	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// What was prepared is used once, and only for the rules that it has.
func TestPrepare(t *testing.T) {
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	p := newTap(t)
	g := new(Guards)
	other := frames.Typical
	other.StormLimit++
	for _, step := range []struct {
		name           string
		prepare, rules *Rules
	}{
		{"prepared", &frames.Typical, &frames.Typical},
		{"in place", nil, &frames.Typical},
		{"prepared for others", &frames.Typical, &other},
		{"prepared before", nil, &frames.Typical},
		{"not prepared", nil, &other},
	} {
		if step.prepare != nil {
			g.Prepare(*step.prepare)
			<-g.ahead.done
		}
		if err := g.Attach(p.port, *step.rules); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got, err := g.Observe(p.port); err != nil || !got.Equal(step.rules.Canonical()) {
			t.Errorf("%s: guard is %v, error %v", step.name, got.Texts(), err)
		}
	}
	if g.ahead != nil {
		t.Error("what was prepared was not used")
	}
}

// What is wrong with the rules is for Attach to say.
func TestPrepareNonsense(t *testing.T) {
	g := new(Guards)
	g.Prepare(Rules{})
	if g.ahead != nil {
		t.Error("a guard of nobody is being loaded")
	}
	if err := g.Attach(1, Rules{}); err == nil {
		t.Error("a guard of nobody was attached")
	}
}
