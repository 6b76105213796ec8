package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	kernels   []string
	suites    []string // folders of test packages, from the top of the repository, or patterns such as pkg/...
	run, skip string   // patterns as for `go test`
	timeout   time.Duration
	memoryMB  int
	cpus      int
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	suites := flags.String("suites", "tests/kernels/probe tests/netns", "test packages to run, in this order")
	flags.StringVar(&o.run, "run", "", "run only tests that match, as for go test")
	flags.StringVar(&o.skip, "skip", "", "leave out tests that match, as for go test")
	flags.DurationVar(&o.timeout, "timeout", 40*time.Minute, "of each test package; of each kernel, twice that")
	flags.IntVar(&o.memoryMB, "memory", 1024, "of the host under test, in MiB")
	flags.IntVar(&o.cpus, "cpus", 2, "of the host under test")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.suites, o.kernels = strings.Fields(*suites), flags.Args()
	if len(o.kernels) == 0 || len(o.suites) == 0 {
		return o, errors.New("name a kernel and a test package: see go doc ./tests/kernels")
	}
	return o, nil
}

// run tests all kernels, one after the other, and writes the report to out.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.suites, err = expand(ctx, o.suites); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "microvm-cni-kernels-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	image, err := buildImage(ctx, dir, o)
	if err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	var results []*result
	for _, name := range o.kernels {
		k, err := findKernel(name)
		if err != nil {
			return err
		}
		r, err := test(ctx, k, image, o, out)
		if err != nil {
			return fmt.Errorf("test kernel %s: %w", name, err)
		}
		results = append(results, r)
	}
	return writeTables(out, results)
}

// expand returns the folders of all packages with tests that the patterns mean,
// each of which has to mean one.
func expand(ctx context.Context, patterns []string) ([]string, error) {
	const format = "{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}"
	top, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	var suites []string
	for _, pattern := range patterns {
		cmd := exec.CommandContext(ctx, "go", "list", "-f", format, "./"+pattern)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("list packages %s: %w", pattern, err)
		}
		folders := strings.Fields(string(out))
		if len(folders) == 0 {
			return nil, fmt.Errorf("list packages %s: there is none with tests", pattern)
		}
		for _, folder := range folders {
			suite, err := filepath.Rel(top, folder)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(suites, suite) {
				suites = append(suites, suite)
			}
		}
	}
	return suites, nil
}

// bootAttempts bounds how often a kernel is booted that does not come up: in software
// emulation one in a hundred dies while it changes its own code.
const bootAttempts = 3

// test boots one kernel and follows what its test binaries say. The machine's
// end before theirs is a failure of the suites that it took with it.
func test(ctx context.Context, k kernel, image string, o options, out io.Writer) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*o.timeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		m, err := boot(ctx, k, image, o)
		if err != nil {
			return nil, err
		}
		r := &result{kernel: k, capabilities: map[string]string{}}
		f := &follower{ctx: ctx, result: r, out: out, started: m.started, due: slices.Clone(o.suites)}
		followErr := f.follow(m.channel)
		exitErr := m.end()
		if followErr != nil {
			return nil, followErr
		}
		if f.done {
			return r, nil
		}
		why := fmt.Sprintf("the machine ended early: %v\n%s", errors.Join(ctx.Err(), exitErr), m.console.tail())
		if r.boot > 0 || attempt == bootAttempts || ctx.Err() != nil {
			return r, f.abandon(why)
		}
		fmt.Fprintf(os.Stderr, "%s: booting it once more, for %s\n", k.name, why)
	}
}
