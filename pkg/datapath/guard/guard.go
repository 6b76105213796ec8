// Package guard keeps a guest from sending what it has no right to: frames that
// are not its own, and those with which it would take over another's traffic.
// docs/security.md has the rules.
//
// The guard is a BPF program at the tc ingress of the bridge port, where the
// guest's frames come in. Its rules are constants of the program, so changing
// them is replacing it, which no frame notices. Nothing is pinned and nobody has
// to stay alive for it: it lives and dies with the port, and so do its maps,
// which are found through it. bpftool shows them as guard_rules, guard_drops (a
// counter for each reason, by number) and guard_last.
//
// All functions act on the network namespace of the calling thread, and take the
// interface index of the port.
package guard

import (
	"errors"
	"fmt"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// Priority is that of the filter. Whatever comes before it and accepts frames
// itself gets them past the guard.
const Priority = 10

// name is what `tc filter show` calls the filter.
const name = "microvm-cni:guard"

// State tells what was found in the place of the guard.
type State int

const (
	// Absent is no guard: nothing, or something of somebody else.
	Absent State = iota
	// Changed is a guard with a program that is not of this version.
	Changed
	// InPlace is a guard that works.
	InPlace
)

func (s State) String() string { return [...]string{"absent", "changed", "in place"}[s] }

func filter(port int) tcbpf.Filter {
	return tcbpf.Filter{Link: port, Hook: tcbpf.Ingress, Priority: Priority, Name: name}
}

// Attach guards the port with these rules, whatever rules were there. If they
// are in place already, nothing is done. It returns a cnierr.Config error for
// rules that make no sense, and a cnierr.Exists error if somebody else has the
// place.
func Attach(port int, r Rules) error { return attach(port, r, fresh) }

func attach(port int, r Rules, program func(Rules) (loaded, error)) error {
	if err := r.Check(); err != nil {
		return err
	}
	r = r.Canonical()
	there, state, err := Observe(port)
	if err != nil || state == InPlace && unbypassed(there).Equal(r) {
		return err
	}
	l, err := program(r)
	if err != nil {
		return fmt.Errorf("guard link %d: %w", port, err)
	}
	return errors.Join(filter(port).Attach(l.program), l.Close())
}

// fresh loads a program with these rules, which must be checked and canonical.
func fresh(r Rules) (loaded, error) {
	program, err := parsed()
	if err != nil {
		return loaded{}, err
	}
	return load(program, r)
}

// unbypassed are the rules, whatever else is at the port.
func unbypassed(r Rules) Rules {
	r.Bypass = ""
	return r
}

// Observe returns the rules of the port's guard if it is in place, and what
// frames meet before it.
func Observe(port int) (Rules, State, error) {
	p, err := filter(port).Observe()
	if err != nil || p.ID == 0 {
		return Rules{}, Absent, err
	}
	program, err := parsed()
	if err != nil {
		return Rules{}, Absent, err
	}
	if !program.HasTag(p.Tag) {
		return Rules{}, Changed, nil
	}
	var value []byte
	err = withMap(p.ID, rulesMap, func(m tcbpf.FD, s tcbpf.MapSpec) error {
		value = make([]byte, s.Value)
		return m.Get(0, value)
	})
	if errors.Is(err, errNoMap) {
		return Rules{}, Changed, nil
	}
	if err != nil {
		return Rules{}, Absent, fmt.Errorf("read rules of the guard of link %d: %w", port, err)
	}
	r, err := decode(value)
	r.Bypass = p.Before
	return r, InPlace, err
}

// Detach removes the guard. That there is none is no error.
func Detach(port int) error { return filter(port).Detach() }
