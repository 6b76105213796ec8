package splice

// Splicer is this package as pkg/kernel wants it.
type Splicer struct{}

// Install is the function of that name.
func (Splicer) Install(tap, inner int) error { return Install(tap, inner) }

// Remove is the function of that name.
func (Splicer) Remove(tap, inner int) error { return Remove(tap, inner) }

// Observe is the function of that name.
func (Splicer) Observe(tap, inner int) (toBridge, toGuest bool, err error) {
	s, err := Observe(tap, inner)
	return s.ToBridge, s.ToGuest, err
}
