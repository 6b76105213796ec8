//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/tests/bench/netns"
)

const (
	rounds   = 400
	turn     = 5 * time.Millisecond // of a round, for each
	lifes    = 200                  // attachments
	starts   = 25                   // of a host
	guests   = 20                   // that it starts with
	vnetSize = 10
)

func run(plugins string) error {
	host, err := netns.New()
	if err != nil {
		return err
	}
	return host.Do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := rates(plugins); err != nil {
			return err
		}
		if err := unpin(); err != nil {
			return err
		}
		leases, err := os.MkdirTemp("", "microvm-cni-bench-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(leases) }()
		n := network{plugins: plugins, bridge: "br"}
		if err = alone(n, leases, "a host's only guest, which finds no program,"); err != nil {
			return err
		}
		n.leases = leases
		if err = boots(n); err != nil {
			return err
		}
		// From here on programs are kept.
		if err = unix.Mount("bench", "/sys/fs/bpf", "bpf", 0, ""); err != nil {
			return fmt.Errorf("mount BPF file system: %w", err)
		}
		if err = alone(n, leases, "a host's only guest, not its first,"); err != nil {
			return err
		}
		other := n
		other.bridge = "other"
		if err = other.stay(); err != nil {
			return err
		}
		if err = attachments(n, "a bridge's first guest, on a host with others, with host-local"); err != nil {
			return err
		}
		if err = n.stay(); err != nil {
			return err
		}
		if err = attachments(n, "one more guest, with host-local"); err != nil {
			return err
		}
		// The kernel shows the oldest programs first.
		end, err := strangers()
		if err != nil {
			return err
		}
		defer end()
		n.bridge, n.limit = "late", 999
		if err = n.stay(); err != nil {
			return err
		}
		return attachments(n, fmt.Sprintf("one more guest, with host-local, behind %d programs of others", others))
	})
}

// alone compares ADDs and DELs of guests of which there is one at a time.
func alone(n network, leases, who string) error {
	for _, of := range []struct{ leases, access, what string }{
		{"", "", "without addresses"}, {leases, "", "with host-local"}, {leases, "gateway", "with host-local and hostAccess"},
	} {
		n.leases, n.access = of.leases, of.access
		if err := attachments(n, who+" "+of.what); err != nil {
			return err
		}
	}
	return nil
}

// others is how many programs services and other networks of a full host may have.
const others = 500

// strangers loads programs that are no guards, as systemd does for services.
func strangers() (end func(), err error) {
	var all []*ebpf.Program
	end = func() {
		for _, p := range all {
			_ = p.Close() // and at worst with the process
		}
	}
	for range others {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.CGroupDevice, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}, License: "Apache-2.0",
		})
		if err != nil {
			end()
			return nil, err
		}
		all = append(all, p)
	}
	return end, nil
}

// stay attaches a guest with guard and one without, which end with the namespace.
func (n network) stay() error {
	for _, mode := range modes {
		a := attachment{network: n, mode: mode, id: mode + "-" + n.bridge}
		if err := a.add(); err != nil {
			return err
		}
	}
	return nil
}

// rates compares two pairs of guests, each on a bridge of its own.
func rates(plugins string) error {
	var paths [2]path
	for i, mode := range modes {
		p, err := newPath(plugins, mode)
		if err != nil {
			return fmt.Errorf("guests with mode %s: %w", mode, err)
		}
		paths[i] = p
	}
	var set unix.CPUSet
	runtime.LockOSThread()
	set.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	var rate [2][]float64
	var ratios []float64
	for range rounds {
		for i, p := range paths {
			r, err := p.run()
			if err != nil {
				return err
			}
			rate[i] = append(rate[i], r)
		}
		ratios = append(ratios, rate[1][len(ratios)]/rate[0][len(ratios)])
	}
	fmt.Printf("frames of 64 bytes a second, median of %d rounds: %.0f without guard, %.0f with it, ratio %.3f\n",
		rounds, median(rate[0]), median(rate[1]), median(ratios))
	for _, p := range paths {
		if err := p.end(); err != nil {
			return err
		}
	}
	return nil
}

// modes are without guard and with it.
var modes = [2]string{"off", "enforce"}

// unpin lets the thread run on all CPUs.
func unpin() error {
	var all unix.CPUSet
	for cpu := range runtime.NumCPU() {
		all.Set(cpu)
	}
	return unix.SchedSetaffinity(0, &all)
}

// attachments compares ADDs and DELs, of guests that come and go one by one, on all
// CPUs.
func attachments(on network, who string) error {
	var adds, dels [2][]cost
	for n := range lifes {
		for i, mode := range modes {
			a := attachment{network: on, mode: mode, id: fmt.Sprintf("life%d", n)}
			if err := a.add(); err != nil {
				return err
			}
			if err := a.del(); err != nil {
				return err
			}
			adds[i], dels[i] = append(adds[i], a.adding), append(dels[i], a.deleting)
		}
	}
	for _, v := range []struct {
		verb string
		took [2][]cost
	}{{"ADD", adds}, {"DEL", dels}} {
		report(v.verb+" of microvm-bridge for "+who+", ms of CPU time", v.took, func(c cost) time.Duration { return c.cpu })
		report(v.verb+" of microvm-bridge for "+who+", ms", v.took, func(c cost) time.Duration { return c.wall })
	}
	return nil
}

// boots compares ADDs of the guests of a host that has none yet: on average, so that
// what the first one takes is in it.
func boots(on network) error {
	var adds [2][]cost
	for range starts {
		for i, mode := range modes {
			var all []*attachment
			var sum cost
			for n := range guests {
				a := &attachment{network: on, mode: mode, id: fmt.Sprintf("start%d", n)}
				if err := a.add(); err != nil {
					return err
				}
				all = append(all, a)
				sum.cpu, sum.wall = sum.cpu+a.adding.cpu, sum.wall+a.adding.wall
			}
			for _, a := range all {
				if err := a.del(); err != nil {
					return err
				}
			}
			adds[i] = append(adds[i], cost{cpu: sum.cpu / guests, wall: sum.wall / guests})
		}
	}
	what := fmt.Sprintf("ADD of microvm-bridge, mean of the first %d guests of a host, with host-local, ms", guests)
	report(what+" of CPU time", adds, func(c cost) time.Duration { return c.cpu })
	report(what, adds, func(c cost) time.Duration { return c.wall })
	return nil
}

func report(what string, took [2][]cost, of func(cost) time.Duration) {
	var ms [2][]float64
	for i := range took {
		for _, c := range took[i] {
			ms[i] = append(ms[i], of(c).Seconds()*1000)
		}
	}
	fmt.Printf("%s, median of %d: %.2f without guard, %.2f with it, difference %+.2f\n",
		what, len(ms[0]), median(ms[0]), median(ms[1]), median(difference(ms[1], ms[0])))
}

func difference(a, b []float64) (d []float64) {
	for i := range a {
		d = append(d, a[i]-b[i])
	}
	return d
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// trimmed is text without what would break a line.
func trimmed(b []byte) string { return strings.Join(strings.Fields(string(b)), " ") }
