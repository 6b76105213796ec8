package guard

import "errors"

// Guards is this package as pkg/kernel is handed it, for a process that ends soon.
type Guards struct {
	expected wanted
	ready    chan loaded // gets the program that is expected, or none after an error
	port     int         // that Attach got last
	to       wanted      // which was this
}

// New returns guards of ports in the network namespace that the process runs in.
func New() *Guards { return &Guards{} }

// Expect sees to it that there is a program for ports with such rules, while the
// caller goes on: to load one takes some milliseconds, and to find it in the kernel
// a hundredth of that, or more if others have hundreds of programs there. Of addresses
// only their number counts. The program goes with the process if nothing came of it;
// an error is for Attach to find.
func (g *Guards) Expect(r Rules) {
	w, err := want(r)
	if err != nil {
		return
	}
	ready := make(chan loaded, 1)
	g.expected, g.ready = w, ready
	go func() {
		_, _ = possibleCPUs() // so that nobody has to wait for it
		l, err := w.find(func(loaded) bool { return true })
		if err == nil && l.program < 0 {
			l, err = w.load()
		}
		if err != nil {
			l = noProgram()
		}
		ready <- l
	}()
}

// Attach is Attach.
func (g *Guards) Attach(port int, r Rules) error {
	w, err := want(r)
	if err != nil {
		return err
	}
	err = w.attach(port, r, func() loaded {
		if g.ready == nil || !alike(w.shared, g.expected.shared) {
			return noProgram()
		}
		ready := g.ready
		g.ready = nil
		return <-ready
	})
	if err == nil {
		g.port, g.to = port, w
	}
	return err
}

// Keep keeps the program of the port that Attach got last for guests to come, by a name in
// the host's BPF file system, if it has one: the next guest with such rules finds it, be it
// the only one.
func (g *Guards) Keep() error {
	if g.port == 0 {
		return nil
	}
	return g.to.keep(g.port)
}

// Forget is Forget.
func (*Guards) Forget() error { return Forget() }

// Detach is Detach.
func (*Guards) Detach(port int) error { return Detach(port) }

// Observe returns the port's rules. A guard that is not in place has none.
func (*Guards) Observe(port int) (Rules, error) {
	r, state, err := Observe(port)
	if state != InPlace {
		r = Rules{Instead: r.Instead}
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
func (*Guards) Supported() (caveat string, err error) { return Supported() }
