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

// InstallShortcut is the function of that name.
func (Splicer) InstallShortcut(port, upper int) error { return InstallShortcut(port, upper) }

// RemoveShortcut is the function of that name.
func (Splicer) RemoveShortcut(port int) error { return RemoveShortcut(port) }

// ObserveShortcut is the function of that name.
func (Splicer) ObserveShortcut(port, upper int) (bool, error) { return ObserveShortcut(port, upper) }

// Unqueue is the function of that name.
func (Splicer) Unqueue(tap int) error { return Unqueue(tap) }

// Requeue is the function of that name.
func (Splicer) Requeue(tap int) error { return Requeue(tap) }

// Unqueued is the function of that name.
func (Splicer) Unqueued(tap int) (bool, error) { return Unqueued(tap) }
