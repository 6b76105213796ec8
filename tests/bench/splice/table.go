//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	rounds int
	slice  time.Duration
	sizes  []string
	all    bool
	only   string
	cpu    int
	wall   bool

	plugins string // folder; "" for the ways of ways
}

func parse() (options, error) {
	var o options
	flag.IntVar(&o.rounds, "rounds", 41, "how often each way takes its turn")
	flag.DurationVar(&o.slice, "slice", 20*time.Millisecond, "length of a turn")
	sizes := flag.String("sizes", "64,1500,gso", "of the frames; gso is 64000 bytes of TCP for the receiver to segment")
	flag.BoolVar(&o.all, "all", false, "also measure the ways that were tried and not taken")
	flag.StringVar(&o.only, "only", "", "only ways whose name contains this, and the baseline")
	flag.IntVar(&o.cpu, "cpu", 0, "the CPU to run on")
	flag.BoolVar(&o.wall, "wall", false, "count time as on the wall, not the thread's CPU time: for ways that keep another CPU busy, on an idle machine")
	flag.StringVar(&o.plugins, "plugins", "", "measure what the plugins in this folder make, in place of all else")
	flag.Parse()
	o.sizes = strings.Split(*sizes, ",")
	for _, s := range o.sizes {
		if !slices.Contains([]string{"64", "1500", "gso"}, s) {
			return o, fmt.Errorf("read size %q: not one of 64, 1500 and gso", s)
		}
	}
	return o, nil
}

// clock is what the thread's time is read from. CPU time leaves out what other
// processes take.
func (o options) clock() int32 {
	if o.wall {
		return unix.CLOCK_MONOTONIC
	}
	return unix.CLOCK_THREAD_CPUTIME_ID
}

// row is one line of the table.
type row struct {
	way
	path
	rates map[string][]float64 // by size, one for each round
	err   error
}

// measure writes the table to out, and returns its rows.
func measure(o options, out io.Writer) ([]*row, error) {
	r, err := newRig()
	if err != nil {
		return nil, err
	}
	var rows []*row
	all := ways
	if o.plugins != "" {
		all = pluginWays(o.plugins)
	}
	for i, w := range all {
		if i > 0 && (w.wide && !o.all || !strings.Contains(w.name, o.only)) {
			continue
		}
		row := &row{way: w, rates: map[string][]float64{}}
		row.path, row.err = r.newPath(w.from, w.to)
		rows = append(rows, row)
	}
	if err := pin(o.cpu); err != nil {
		return nil, fmt.Errorf("stay on CPU %d: %w", o.cpu, err)
	}
	for range o.rounds {
		for _, size := range o.sizes {
			for _, row := range rows {
				row.turn(size, o)
			}
		}
	}
	runtime.KeepAlive(r)
	if err := show(rows, o, out); err != nil {
		return nil, err
	}
	if rows[0].err != nil {
		return nil, fmt.Errorf("measure the baseline: %w", rows[0].err)
	}
	return rows, nil
}

// turn measures once. A way that failed does not come up again.
func (r *row) turn(size string, o options) {
	if r.err != nil {
		return
	}
	rate, err := r.run(r.sizes[size], o.slice, o.clock())
	if err != nil {
		r.err = fmt.Errorf("size %s: %w", size, err)
		return
	}
	r.rates[size] = append(r.rates[size], rate)
}

func show(rows []*row, o options, out io.Writer) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	var table, failed strings.Builder
	fmt.Fprintf(&table, "Linux %s, %d rounds of %v; thousands of frames a second, and the ratio to the first row\n\n", unix.ByteSliceToString(u.Release[:]), o.rounds, o.slice)
	table.WriteString("| way | " + strings.Join(o.sizes, " | ratio | ") + " | ratio |\n|---|" + strings.Repeat("---:|", 2*len(o.sizes)) + "\n")
	for _, r := range rows {
		table.WriteString("| " + r.name)
		for _, size := range o.sizes {
			if len(r.rates[size]) < o.rounds {
				table.WriteString(" | - | -")
				continue
			}
			fmt.Fprintf(&table, " | %.0f | %.2f", median(r.rates[size])/1e3, median(quotients(r.rates[size], rows[0].rates[size])))
		}
		table.WriteString(" |\n")
		if r.err != nil {
			fmt.Fprintf(&failed, "\n%s: %v\n", r.name, r.err)
		}
	}
	_, err := io.WriteString(out, table.String()+failed.String())
	return err
}

func quotients(a, b []float64) []float64 {
	q := make([]float64, min(len(a), len(b)))
	for i := range q {
		q[i] = a[i] / b[i]
	}
	return q
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return s[len(s)/2]
}
