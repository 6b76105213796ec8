// Package guard keeps a guest from sending what it has no right to: frames that
// are not its own, and those with which it would take over another's traffic.
// docs/security.md has the rules.
//
// The guard is a BPF program at the tc ingress of the bridge port, where the
// guest's frames come in. What the configuration's knobs say is in the program's
// constants; ports with the same knobs share it. Each guest's own addresses, and
// what is counted, are in maps, by the port's interface index. Nobody has to stay
// alive for it: the program lives as long as a port that has it, and so do its maps,
// which are found through it. For guests to come it may be kept, by a name in the BPF
// file system, on which nothing depends. bpftool shows the maps as guard_rules,
// guard_ports, guard_drops (a counter for each reason, by name) and guard_last.
//
// All functions act on the network namespace of the calling thread, and take the
// interface index of the port.
package guard

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
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
	// Changed is a guard with a program that is not of this version, or with rules
	// that it was not given.
	Changed
	// InPlace is a guard that works.
	InPlace
)

func (s State) String() string { return [...]string{"absent", "changed", "in place"}[s] }

func filter(port int) tcbpf.Filter {
	return tcbpf.Filter{Link: port, Hook: tc.Ingress, Priority: Priority, Name: name}
}

// Attach guards the port with these rules, whatever rules were there. If they
// are in place already, nothing is done. It returns a cnierr.Config error for
// rules that make no sense, and a cnierr.Exists error if somebody else has the
// place, or one before it, which Bypass may name.
func Attach(port int, r Rules) error {
	w, err := want(r)
	if err != nil {
		return err
	}
	return w.attach(port, r, noProgram)
}

// attach is Attach; ready gives a program with these constants, if there is one at
// hand.
func (w wanted) attach(port int, r Rules, ready func() loaded) error {
	there, state, before, err := observe(port)
	before = cmp.Or(r.Bypass, before)
	if err == nil && before != "" {
		err = cnierr.New(cnierr.Exists, fmt.Sprintf("take it off, or give it a preference above %d if it is a filter: it may accept frames that the guard then never sees", Priority),
			"link %d has something before the guard: a %s", port, before)
	}
	if err != nil || state == InPlace && there.Equal(r.Canonical()) {
		return err
	}
	l, err := w.programFor(port, ready())
	if err != nil {
		return fmt.Errorf("guard link %d: %w", port, err)
	}
	return errors.Join(filter(port).Attach(l.program), l.Close())
}

// wanted is what rules come to: a program with constants, and what is a port's own. The
// program is not read before somebody asks for it.
type wanted struct {
	program func() (*tcbpf.Object, error)
	netns   uint64
	shared  []byte
	own     identity
}

// want returns what the rules come to in the thread's network namespace, and a
// cnierr.Config error for rules that make no sense.
func want(r Rules) (w wanted, err error) {
	if err = r.Check(); err != nil {
		return w, err
	}
	w.program = parsed
	if w.netns, err = tcbpf.Namespace(); err != nil {
		return w, err
	}
	w.shared, w.own = encode(r.Canonical(), w.netns)
	return w, nil
}

// programFor returns a program that knows the port: the one that is ready, which is
// closed if that cannot be, else one that is in the kernel, else a new one. It costs a
// hundred times as much to load one as to find that of another guest of the network,
// unless the host has many programs of others.
func (w wanted) programFor(port int, ready loaded) (l loaded, err error) {
	if ready.program >= 0 {
		if ready.admit(port, w.own) == nil {
			return ready, nil
		}
		if err = ready.Close(); err != nil {
			return l, err
		}
	}
	l, err = w.find(func(l loaded) bool { return l.admit(port, w.own) == nil })
	if err != nil || l.program >= 0 {
		return l, err
	}
	if l, err = w.load(); err != nil {
		return l, err
	}
	if err = l.admit(port, w.own); err != nil {
		return l, errors.Join(err, l.Close())
	}
	return l, nil
}

// Observe returns the rules of the port's guard if it is in place, and what
// frames meet before it.
func Observe(port int) (Rules, State, error) {
	r, state, before, err := observe(port)
	if state == InPlace {
		r.Bypass = before
	}
	return r, state, err
}

func observe(port int) (r Rules, state State, before string, err error) {
	p, err := filter(port).Observe()
	if err != nil || p.ID == 0 {
		return Rules{Instead: p.Instead}, Absent, p.Before, err
	}
	changed := func(what string) (Rules, State, string, error) {
		return Rules{Instead: fmt.Sprintf("program %d there %s", p.ID, what)}, Changed, p.Before, nil
	}
	program, err := parsed()
	if err != nil {
		return Rules{}, Absent, "", err
	}
	if !program.HasTag(p.Tag) {
		return changed("is of another version of the plugins, or somebody else's")
	}
	var shared []byte
	var own identity
	var counts bool
	err = withMaps(p.ID, func(maps tcbpf.Maps) (err error) {
		if shared, err = value(maps, rulesMap, 0, 1); err != nil {
			return err
		}
		if own, err = (loaded{maps: maps}).identity(port); err != nil {
			return err
		}
		counts, err = counting(maps, port)
		return err
	})
	if errors.Is(err, errNoMap) || err == nil && own.Ifindex != uint32(port) {
		return changed("does not know the port, and drops all that its guest sends")
	}
	if err != nil {
		return Rules{}, Absent, "", fmt.Errorf("read rules of the guard of link %d: %w", port, err)
	}
	if r, err = decode(shared, own); err != nil {
		return r, InPlace, p.Before, err
	}
	ahead, err := own.ahead()
	if err != nil {
		return Rules{}, Absent, "", err
	}
	longest, err := longestAhead()
	if err != nil {
		return Rules{}, Absent, "", err
	}
	switch {
	case !encodes(r, shared, own):
		return changed("has rules that it was not given")
	case !counts:
		return changed("lost the port's counters")
	case ahead > longest:
		return changed(fmt.Sprintf("holds broadcasts or groups back for %v, longer than any limit does", ahead.Round(time.Second)))
	}
	return r, InPlace, p.Before, nil
}

// Detach removes the guard. That there is none is no error.
func Detach(port int) error { return filter(port).Detach() }
