package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// event is one line of test2json.
type event struct {
	Action, Test string
	Key, Value   string // of an attr
}

// tally collects how the tests of a suite ended.
type tally struct {
	actions map[string]string // by test; empty while it runs
	failed  bool              // the suite as a whole
}

func (t *tally) add(e event) {
	switch {
	case e.Action == "run":
		t.actions[e.Test] = ""
	case !slices.Contains([]string{"pass", "fail", "skip"}, e.Action):
	case e.Test == "":
		t.failed = e.Action == "fail"
	default:
		t.actions[e.Test] = e.Action
	}
}

// counts are those of tests/report: of tests without subtests, and of those
// that fail by themselves.
type counts struct {
	suite                   string
	passed, failed, skipped int
	elapsed                 time.Duration
	load                    float64 // of the machine, which is more than its CPUs when it has other work
}

func (t *tally) count(suite string, elapsed time.Duration) counts {
	c := counts{suite: suite, elapsed: elapsed}
	for name, action := range t.actions {
		parent, childFailed := false, false
		for other, its := range t.actions {
			if strings.HasPrefix(other, name+"/") {
				parent = true
				childFailed = childFailed || its == "fail" || its == ""
			}
		}
		switch {
		case action == "skip":
			c.skipped++
		case action == "pass" && !parent:
			c.passed++
		case action != "pass" && !childFailed:
			c.failed++
		}
	}
	if t.failed && c.failed == 0 {
		c.failed = 1
	}
	return c
}

// load returns how many processes have wanted a CPU in the last minute, on this machine.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return math.NaN()
	}
	first, _, _ := strings.Cut(string(text), " ")
	value, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return math.NaN()
	}
	return value
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// result is what there is to know of one kernel.
type result struct {
	kernel       kernel
	kernelBoot   time.Duration // from the kernel's start to that of its first process
	boot         time.Duration // from QEMU's start to that of the first suite
	suites       []counts
	capabilities map[string]string
}

// writeTables writes the tables of docs/kernels.md.
func writeTables(out io.Writer, results []*result) error {
	var b strings.Builder
	b.WriteString("\n| kernel | Debian package | user space after | tests | passed | failed | skipped | seconds | load |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		for _, c := range r.suites {
			fmt.Fprintf(&b, "| %s | %s | %.1f s | %s | %d | %d | %d | %.0f | %.0f |\n",
				r.kernel.name, r.kernel.pkg, r.kernelBoot.Seconds(), c.suite, c.passed, c.failed, c.skipped, c.elapsed.Seconds(), c.load)
		}
	}
	names := map[string]bool{}
	for _, r := range results {
		for name := range r.capabilities {
			names[name] = true
		}
	}
	if len(names) > 0 {
		b.WriteString("\n| |")
		for _, r := range results {
			b.WriteString(" " + r.kernel.name + " |")
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(results)) + "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		b.WriteString("| " + name + " |")
		for _, r := range results {
			b.WriteString(" " + r.capabilities[name] + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	_, err := io.WriteString(out, b.String())
	return err
}
