package chain

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// at runs f n times at once.
func at(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// Of two ADDs of one attachment at once exactly one wins.
func TestTwoAddsAtOnce(t *testing.T) {
	h := newQuietHost(t)
	n := h.pair(nil)
	for round := range 10 {
		v := h.vm(fmt.Sprintf("vm%d", round))
		var errs [2]error
		at(2, func(i int) { _, errs[i] = n.tryAdd(v) })
		lost := errs[0]
		if lost == nil {
			lost = errs[1]
		}
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("want one error: %v, %v", errs[0], errs[1])
		} else {
			wantError(t, lost, 101)
		}
		n.holds(v)
		if leases := h.leases("lab"); len(leases) != 1 {
			t.Errorf("leases are %v", leases)
		}
		n.remove(v)
		h.empty()
	}
}

// The bridge is made once, however many begin.
func TestManyAtOnce(t *testing.T) {
	const vms = 64
	h := newQuietHost(t)
	n := h.pair(nil)
	name := func(i int) vm { return h.vm(fmt.Sprintf("vm%d", i)) }
	at(vms, func(i int) {
		if _, err := n.tryAdd(name(i)); err != nil {
			t.Errorf("ADD %d: %v", i, err)
		}
	})
	if made, leases := len(h.made()), len(h.leases("lab")); made != vms+1 || leases != vms {
		t.Errorf("%d links and %d leases, want %d taps and a bridge", made, leases, vms)
	}
	at(vms, func(i int) { n.holds(name(i)) })
	at(vms, func(i int) { n.remove(name(i)) })
	h.empty()
}

// ADDs and DELs in any order, the bridge coming and going in between.
func TestRandomWalks(t *testing.T) {
	const (
		walkers = 8
		steps   = 12
	)
	h := newQuietHost(t)
	nets := []*network{h.pair(nil), h.network("plain", newest, tap, plain)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	at(walkers, func(i int) {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		v := h.vm(fmt.Sprintf("vm%d", i))
		there := map[*network]bool{}
		for range steps {
			n := nets[random.IntN(len(nets))]
			if there[n] {
				n.holds(v)
				n.remove(v)
			} else if _, err := n.tryAdd(v); err != nil {
				t.Errorf("ADD %s on %s: %v", v.id, n.name, err)
			}
			there[n] = !there[n]
		}
		for n, up := range there {
			if up {
				n.remove(v)
			}
		}
	})
}
