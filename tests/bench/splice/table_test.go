package main

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Each way that is measured by default carries frames of each size. To measure on
// a kernel that tests/kernels boots, say there how many rounds.
func TestWays(t *testing.T) {
	o := options{rounds: 1, slice: time.Millisecond, sizes: []string{"64", "1500", "gso"}}
	if n, err := strconv.Atoi(os.Getenv("MICROVM_CNI_BENCH_ROUNDS")); err == nil {
		o.rounds, o.slice, o.all = n, 50*time.Millisecond, true
	}
	rows, err := measure(o, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.err != nil && !r.wide {
			t.Errorf("%s: %v", r.name, r.err)
		}
	}
}
