package guard

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/microvm-cni/microvm-cni/tests/frames"
)

var budget = flag.Int("frames", 500_000, "how many mutated frames TestMutated judges")

// TestMutated holds the program to the oracle, both ways, on mutations of all
// attacks and all legitimate frames.
func TestMutated(t *testing.T) {
	seeds := fuzzSeeds()
	var next, passing atomic.Int64
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	start := time.Now()
	var workers sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		workers.Go(func() { fuzz(t, seeds, rand.New(rand.NewPCG(seed, uint64(w))), &next, &passing) })
	}
	workers.Wait()
	t.Logf("%d frames, %d of which may pass, in %v", *budget, passing.Load(), time.Since(start).Round(time.Second))
	if n := passing.Load(); n < int64(*budget)/50 {
		t.Errorf("only %d frames pass: the mutations are too wild to tell anything", n)
	}
}

// variants are the rules under which each frame is judged, one after the other.
func variants() []Rules {
	return []Rules{frames.Typical, frames.L2, frames.Isolated, frames.Wide, frames.LegitimateKnobs[0].Rules, frames.LegitimateKnobs[4].Rules, frames.LegitimateKnobs[5].Rules}
}

const batch = 4096 // frames that a worker takes at once

func fuzz(t *testing.T, seeds [][]byte, r *rand.Rand, next, passing *atomic.Int64) {
	var machines []*machine
	var oracles []*oracle
	for _, v := range variants() {
		machines = append(machines, newMachine(t, spec(t), v))
		oracles = append(oracles, newOracle(v))
	}
	buffer := make([]byte, 0, 4096)
	for next.Add(batch) <= int64(*budget)+batch-1 && !t.Failed() {
		passed := 0
		for range batch {
			frame := mutate(r, append(buffer[:0], seeds[r.IntN(len(seeds))]...), seeds)
			v := r.IntN(len(machines))
			if !runnable(frame) {
				continue
			}
			m := machines[v]
			m.ctx.gsoSize, m.ctx.gsoSegs = uint32(r.IntN(2))*1000, 2
			oracles[v].segments = m.ctx.gsoSize != 0
			got, err := m.run(frame)
			if err != nil {
				t.Errorf("%v: %x", err, frame)
				return
			}
			if want := oracles[v].allows(frame); got != want {
				t.Errorf("rules %q: the program says %v, the oracle %v: %x", variants()[v].Texts(), got, want, frame)
				return
			}
			if got {
				passed++
			}
		}
		passing.Add(int64(passed))
	}
}

// runnable tells whether the kernel runs a program on the frame: since Linux
// 6.18 it wants IP headers to be there.
func runnable(frame []byte) bool {
	if len(frame) < 14 {
		return false
	}
	switch {
	case frame[12] == 8 && frame[13] == 0:
		return len(frame) >= 34
	case frame[12] == 0x86 && frame[13] == 0xdd:
		return len(frame) >= 54
	}
	return true
}

func fuzzSeeds() [][]byte {
	var all [][]byte
	for _, a := range slices.Concat(frames.Attacks, frames.Legitimate, frames.Trunk) {
		all = append(all, a.Frame[:min(len(a.Frame), 500)])
	}
	return all
}

// interesting bytes are lengths, types and protocols that mean something.
var interesting = []byte{0, 1, 2, 3, 4, 5, 6, 8, 9, 17, 20, 43, 44, 51, 58, 59, 60, 67, 68, 129, 130, 133, 134, 135, 136, 137, 143, 151, 255, 0x11, 0x12, 0x40, 0x45, 0x46, 0x60}

func mutate(r *rand.Rand, f []byte, seeds [][]byte) []byte {
	for range r.IntN(4) {
		if len(f) < 15 {
			return f
		}
		// Most of what matters is near the beginning.
		at := 12 + r.IntN(min(len(f)-12, 80))
		switch r.IntN(10) {
		case 0:
			f[at] = byte(r.Uint32())
		case 1:
			f[at] ^= 1 << r.IntN(8)
		case 2, 3:
			f[at] = interesting[r.IntN(len(interesting))]
		case 4:
			f = f[:max(14, len(f)-1-r.IntN(40))]
		case 5:
			f = append(f, make([]byte, r.IntN(30))...)
		case 6:
			f = slices.Insert(f, 12, []byte{0x81, 0, byte(r.Uint32() & 15), byte(r.Uint32()), 0x88, 0xa8, 0, 7}[r.IntN(2)*4:][:4]...)
		case 7:
			f = extended(r, f)
		case 8:
			other := seeds[r.IntN(len(seeds))]
			f = append(f[:at], other[min(at, len(other)):]...)
		case 9:
			f[r.IntN(12)] ^= 1 << r.IntN(8)
		}
		fitted(r, f)
	}
	return f
}

// extended puts an extension header before what follows the IPv6 header.
func extended(r *rand.Rand, f []byte) []byte {
	if len(f) < 54 || f[12] != 0x86 {
		return f
	}
	kinds := []byte{0, 43, 44, 51, 60}
	h := [8]byte{0: f[20], 1: byte(r.IntN(2)), 2: byte(r.IntN(3) * r.IntN(2)), 3: byte(r.IntN(2))}
	f[20] = kinds[r.IntN(len(kinds))]
	return slices.Insert(f, 54, h[:]...)
}

// fitted sets, mostly, the length in the IP header right.
func fitted(r *rand.Rand, f []byte) {
	if r.IntN(4) == 0 || len(f) < 54 {
		return
	}
	switch f[12] {
	case 8:
		f[16], f[17] = byte((len(f)-14)>>8), byte(len(f)-14)
	case 0x86:
		f[18], f[19] = byte((len(f)-54)>>8), byte(len(f)-54)
	}
}
