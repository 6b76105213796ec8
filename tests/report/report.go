package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// slowest is how many packages the list of slow ones names.
const slowest = 5

// event is one line of "go test -json" (go doc test2json, go help buildjson).
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	Elapsed     float64 // seconds
	ImportPath  string  // of a build-output or build-fail event, in place of Package
	FailedBuild string  // of a fail event: the ImportPath of the build that failed
}

// test is a test or subtest, or with an empty name what a package prints
// outside of its tests.
type test struct {
	name        string
	action      string // pass, fail or skip; empty while it runs
	parent      bool   // it has subtests, which are counted in its place
	childFailed bool
	output      strings.Builder
}

// pkg is one package under test.
type pkg struct {
	name    string
	elapsed time.Duration
	done    bool
	tests   map[string]*test
	order   []*test
}

// report collects the events of one run of "go test".
type report struct {
	out    io.Writer
	pkgs   map[string]*pkg
	order  []*pkg
	builds map[string]*strings.Builder // what the compiler printed, printed once

	passed, failed, skipped int
	skips                   []string // name and reason of each skipped test
}

func newReport(out io.Writer) *report {
	return &report{out: out, pkgs: map[string]*pkg{}, builds: map[string]*strings.Builder{}}
}

// read takes in the whole stream. It calls flush each time that a package is
// finished, so that a person who waits sees progress.
func (r *report) read(in io.Reader, flush func() error) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
			if flushErr := flush(); flushErr != nil {
				return fmt.Errorf("write report: %w", flushErr)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read test output: %w", err)
		}
	}
}

// line takes in one line; one that is not JSON passes through.
func (r *report) line(line []byte) {
	var e event
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil {
		r.printf("%s", line)
		return
	}
	switch {
	case e.Action == "build-output":
		if r.builds[e.ImportPath] == nil {
			r.builds[e.ImportPath] = &strings.Builder{}
		}
		r.builds[e.ImportPath].WriteString(e.Output)
	case e.Package == "":
		// build-fail: the package's fail event tells the same.
	case e.Test == "" && slices.Contains([]string{"pass", "fail", "skip"}, e.Action):
		r.endPackage(r.pkg(e.Package), e)
	case e.Action == "output":
		r.pkg(e.Package).test(e.Test).output.WriteString(e.Output)
	case e.Action == "run":
		r.pkg(e.Package).test(e.Test)
	case slices.Contains([]string{"pass", "fail", "skip"}, e.Action):
		r.endTest(r.pkg(e.Package), r.pkg(e.Package).test(e.Test), e.Action)
	}
}

func (r *report) pkg(name string) *pkg {
	p := r.pkgs[name]
	if p == nil {
		p = &pkg{name: name, tests: map[string]*test{}}
		r.pkgs[name] = p
		r.order = append(r.order, p)
	}
	return p
}

func (p *pkg) test(name string) *test {
	t := p.tests[name]
	if t == nil {
		t = &test{name: name}
		p.tests[name] = t
		p.order = append(p.order, t)
		if up := p.above(t); up != nil {
			up.parent = true
		}
	}
	return t
}

// above returns the test of which t is a subtest, or nil.
func (p *pkg) above(t *test) *test {
	for name := t.name; ; {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return nil
		}
		// The name of a subtest may itself hold slashes.
		name = name[:i]
		if up := p.tests[name]; up != nil {
			return up
		}
	}
}

func (r *report) endTest(p *pkg, t *test, action string) {
	t.action = action
	if action == "fail" {
		for up := p.above(t); up != nil; up = p.above(up) {
			up.childFailed = true
		}
	}
	switch {
	case action == "fail" && !t.childFailed:
		r.failed++
		r.printf("FAIL %s %s\n%s", p.name, t.name, indent(t.text()))
	case action == "fail":
		// The subtest that failed is counted; print what this one has to add.
		if text := t.text(); text != "" {
			r.printf("FAIL %s %s\n%s", p.name, t.name, indent(text))
		}
	case action == "skip":
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("%s %s\n%s", p.name, t.name, indent(t.text())))
	case !t.parent:
		r.passed++
	}
	t.output.Reset()
}

func (r *report) endPackage(p *pkg, e event) {
	p.done = true
	p.elapsed = time.Duration(e.Elapsed * float64(time.Second))
	count := map[string]int{}
	var unfinished []*test
	for _, t := range p.order {
		switch {
		case t.name == "":
		case t.action == "":
			unfinished = append(unfinished, t)
		case !t.parent || t.action != "pass":
			count[t.action]++
		}
	}
	own := p.test("")
	switch {
	case e.Action == "fail":
		r.failPackage(p, e, count["fail"], unfinished)
	case e.Action == "skip":
		r.printf("-    %s: no test files\n", p.name)
	case len(count) == 0 && !strings.Contains(own.output.String(), "no tests to run"):
		// TestMain left without running any: a silent skip of them all.
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("%s: no test ran\n%s", p.name, indent(own.text())))
		r.printf("skip %s: no test ran\n", p.name)
	default:
		r.printf("ok   %s: %d passed, %d skipped in %s\n",
			p.name, count["pass"], count["skip"], p.elapsed.Round(10*time.Millisecond))
	}
	p.tests, p.order = nil, nil
}

// failPackage counts and prints what the failure of a test has not said yet.
func (r *report) failPackage(p *pkg, e event, failedTests int, unfinished []*test) {
	if build := r.builds[e.FailedBuild]; build != nil {
		r.printf("%s", build)
		build.Reset()
	}
	for _, t := range unfinished {
		if t.parent && slices.ContainsFunc(unfinished, func(u *test) bool { return p.above(u) == t }) {
			continue
		}
		r.failed++
		failedTests++
		r.printf("FAIL %s %s: did not finish\n%s", p.name, t.name, indent(t.text()))
	}
	if failedTests == 0 {
		r.failed++
	}
	r.printf("%sFAIL %s in %s\n", p.test("").text(), p.name, p.elapsed.Round(10*time.Millisecond))
}

// finish prints what is to be said at the end, and tells whether the run was
// good.
func (r *report) finish(allowSkip bool) bool {
	for _, p := range r.order {
		if !p.done {
			r.failed++
			r.printf("FAIL %s: did not finish\n", p.name)
		}
	}
	if len(r.skips) > 0 {
		r.printf("\nskipped:\n%s", indent(strings.Join(r.skips, "")))
	}
	slices.SortStableFunc(r.order, func(a, b *pkg) int { return int(b.elapsed - a.elapsed) })
	if slow := r.order[:min(slowest, len(r.order))]; len(slow) > 0 {
		r.printf("\nslowest packages:\n")
		for _, p := range slow {
			r.printf("  %8s %s\n", p.elapsed.Round(10*time.Millisecond), p.name)
		}
	}
	r.printf("\n")
	if r.skipped > 0 && !allowSkip {
		r.printf("a skipped test is a failure; MICROVM_CNI_ALLOW_SKIP=1 tolerates it\n")
	}
	if r.passed+r.failed+r.skipped == 0 {
		r.printf("nothing was tested\n")
		return false
	}
	r.printf("%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0 && (r.skipped == 0 || allowSkip)
}

// framing matches the lines by which the testing package and the go command
// say in text what the events say already.
var framing = regexp.MustCompile(`(?m)^(\s*(=== |--- (PASS|FAIL|SKIP|BENCH): ).*|(PASS|FAIL)|(FAIL|ok)\s*\t.*)$\n?`)

// text is what the test itself printed.
func (t *test) text() string {
	return framing.ReplaceAllString(t.output.String(), "")
}

// indent puts four spaces before each line, and ends the last one.
func indent(s string) string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(s, "\n", "\n    ") + "\n"
}

func (r *report) printf(format string, a ...any) {
	// A write error sticks to the buffer and comes out of its Flush.
	_, _ = fmt.Fprintf(r.out, format, a...)
}
