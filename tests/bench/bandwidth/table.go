//go:build linux

package main

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/microvm-cni/microvm-cni/pkg/shape"
)

type options struct {
	rates      []uint64
	burst      uint64
	runs       int
	duration   time.Duration
	delay      time.Duration
	congestion string
	ipv6       bool
	only       string
}

func parse() (options, error) {
	o := options{}
	rates := flag.String("rates", "1e6,1e7,1e8,1e9,1e10", "bits a second, separated by commas")
	burst := flag.Float64("burst", 0, "bits; 0 is the default of pkg/shape")
	flag.IntVar(&o.runs, "runs", 3, "runs of each row")
	flag.DurationVar(&o.duration, "time", 4*time.Second, "length of a run")
	flag.DurationVar(&o.delay, "delay", 0, "of each frame between guest and host, in each direction")
	flag.StringVar(&o.congestion, "congestion", "cubic", "TCP congestion control")
	flag.BoolVar(&o.ipv6, "ipv6", false, "use IPv6")
	flag.StringVar(&o.only, "only", "", "only mechanisms whose name contains this")
	flag.Parse()
	o.burst = uint64(*burst)
	for r := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.ParseFloat(r, 64)
		if err != nil || rate < 1e5 {
			return o, fmt.Errorf("read rate %q: not a number from 1e5", r)
		}
		o.rates = append(o.rates, uint64(rate))
	}
	return o, nil
}

// row is one line of the table.
type row struct {
	mechanism
	limit   shape.Limit
	samples []sample
}

func measure(o options) error {
	r, err := newRig(o.delay)
	if err != nil {
		return err
	}
	var rows []*row
	for _, rate := range o.rates {
		limit := shape.Limits{ToGuest: shape.Limit{Rate: rate, Burst: o.burst}}.Canonical().ToGuest
		for _, m := range mechanisms {
			if strings.Contains(m.name, o.only) {
				rows = append(rows, &row{mechanism: m, limit: limit})
			}
		}
	}
	for range o.runs {
		for _, row := range rows {
			s, err := r.try(row, o)
			if err != nil {
				return fmt.Errorf("measure %s at %d bit/s: %w", row.name, row.limit.Rate, err)
			}
			row.samples = append(row.samples, s)
		}
	}
	show(rows)
	return nil
}

// try measures one row once.
func (r *rig) try(row *row, o options) (sample, error) {
	err := r.host.Do(func() error {
		device, err := shape.CreateDevice(ifbName)
		if err != nil {
			return err
		}
		return row.install(r.port, device, row.limit)
	})
	if err != nil {
		return sample{}, err
	}
	from, to, address := r.peer, r.guest, guestIP
	if row.fromGuest {
		from, to, address = r.guest, r.peer, peerIP
	}
	if o.ipv6 {
		address = map[bool]string{false: guestIPv6, true: peerIPv6}[row.fromGuest]
	}
	s, err := load(from, to, address, o.congestion, o.duration)
	if err != nil {
		return sample{}, err
	}
	return s, r.host.Do(func() error {
		if err := strip(r.port); err != nil {
			return err
		}
		return shape.DeleteDevice(ifbName)
	})
}

func show(rows []*row) {
	fmt.Println("| rate Mbit/s | direction | mechanism | TCP goodput Mbit/s | % of rate | ping under load ms, median | 95 % | pings lost % | sent again | CPU ms per Gbit |")
	fmt.Println("|---:|---|---|---:|---:|---:|---:|---:|---:|---:|")
	for _, r := range rows {
		direction := map[bool]string{false: "to guest", true: "from guest"}[r.fromGuest]
		goodput := median(r.samples, func(s sample) float64 { return s.goodput })
		share := "-"
		if r.name != "none" {
			share = fmt.Sprintf("%.1f", goodput/float64(r.limit.Rate)*100)
		}
		fmt.Printf("| %g | %s | %s | %.*f | %s | %.1f | %.1f | %.1f | %.0f | %.0f |\n",
			float64(r.limit.Rate)/1e6, direction, r.name, max(0, 3-len(strconv.Itoa(int(goodput/1e6)))), goodput/1e6, share,
			median(r.samples, func(s sample) float64 { return s.rtt50.Seconds() * 1e3 }),
			median(r.samples, func(s sample) float64 { return s.rtt95.Seconds() * 1e3 }),
			median(r.samples, func(s sample) float64 { return s.lost * 100 }),
			median(r.samples, func(s sample) float64 { return float64(s.retransmits) }),
			median(r.samples, sample.cost))
	}
}

func median[T cmp.Ordered](samples []sample, of func(sample) T) T {
	var all []T
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
