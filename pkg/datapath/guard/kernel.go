package guard

import "errors"

// Guards is this package as pkg/kernel is handed it.
type Guards struct{}

// Attach is Attach.
func (Guards) Attach(port int, r Rules) error { return Attach(port, r) }

// Detach is Detach.
func (Guards) Detach(port int) error { return Detach(port) }

// Observe returns the port's rules. A guard that is not in place has none.
func (Guards) Observe(port int) (Rules, error) {
	r, state, err := Observe(port)
	if state != InPlace {
		r = Rules{}
	}
	return r, err
}

// Drops is Counters, without what passed.
func (Guards) Drops(port int) (map[string]uint64, error) {
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
func (Guards) Supported() error { return Supported() }
