package guard

import "errors"

// Guards is this package as pkg/kernel is handed it.
type Guards struct {
	ahead *ahead // what Prepare loads; nil for nothing
}

// ahead is a program that is loaded before there is a port for it.
type ahead struct {
	rules Rules
	done  chan struct{} // closed when the rest is known
	loaded
	err error
}

// Prepare loads a guard in the background, for an Attach with the same rules to
// come: the kernel takes longer to check it than for anything else that an ADD
// asks of it. If none comes it ends with the process.
func (g *Guards) Prepare(r Rules) {
	if r.Check() != nil { // Attach will say so
		return
	}
	a := &ahead{rules: r.Canonical(), done: make(chan struct{})}
	g.ahead = a
	go func() {
		defer close(a.done)
		a.loaded, a.err = fresh(a.rules)
	}()
}

// Attach is Attach, with what Prepare loaded if that is the same.
func (g *Guards) Attach(port int, r Rules) error {
	return attach(port, r, func(r Rules) (loaded, error) {
		a := g.ahead
		if a == nil || !a.rules.Equal(r) {
			return fresh(r)
		}
		g.ahead = nil
		<-a.done
		return a.loaded, a.err
	})
}

// Detach is Detach.
func (*Guards) Detach(port int) error { return Detach(port) }

// Observe returns the port's rules. A guard that is not in place has none.
func (*Guards) Observe(port int) (Rules, error) {
	r, state, err := Observe(port)
	if state != InPlace {
		r = Rules{}
	}
	return r, err
}

// Drops is Counters, without what passed.
func (*Guards) Drops(port int) (map[string]uint64, error) {
	_, counts, err := Counters(port)
	if errors.Is(err, ErrNoGuard) || errors.Is(err, errNoMap) {
		return nil, nil
	}
	drops := map[string]uint64{}
	for reason, n := range counts {
		drops[reason.String()] = n
	}
	return drops, err
}

// Supported is Supported.
func (*Guards) Supported() error { return Supported() }
