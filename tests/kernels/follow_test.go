package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

// say is what a machine says that runs suites.
func say(parts ...string) io.Reader { return strings.NewReader(strings.Join(parts, "")) }

const (
	good = "\x16=== RUN   TestA\n\x16=== ATTR  TestA tun yes\n\x16--- PASS: TestA (0.00s)\n" +
		"\x16=== RUN   TestB\n\x16=== RUN   TestB/one\n    a_test.go:1: why\n\x16--- SKIP: TestB/one (0.00s)\n\x16--- PASS: TestB (0.00s)\n\x16PASS\n"
	bad = "\x16=== RUN   TestA\n\x16=== RUN   TestA/one\n\x16--- FAIL: TestA/one (0.00s)\n\x16--- FAIL: TestA (0.00s)\n\x16FAIL\n"
	cut = "\x16=== RUN   TestA\n\x16--- PASS: TestA (0.00s)\n\x16=== RUN   TestB\n"
)

func TestFollow(t *testing.T) {
	for _, tt := range []struct {
		name   string
		says   io.Reader
		done   bool
		counts []counts // without times
	}{
		{"nothing", say(), false, []counts{{suite: "a", failed: 1}, {suite: "b", failed: 1}}},
		{
			"all", say("\x02boot 1.50\n", "\x02begin a\n", good, "\x02end a 0\n", "\x02begin b\n", bad, "\x02end b 1\n", "\x02done\n"), true,
			[]counts{{suite: "a", passed: 1, skipped: 1}, {suite: "b", failed: 1}},
		},
		{
			"a leak that TestMain finds", say("\x02begin a\n", good, "leak: a file\n", "\x02end a 1\n", "\x02begin b\n", good, "\x02end b 0\n\x02done\n"), true,
			[]counts{{suite: "a", passed: 1, failed: 1, skipped: 1}, {suite: "b", passed: 1, skipped: 1}},
		},
		{
			"output without an end of line", say("\x02begin a\n", good, "more", "\x02end a 0\n", "\x02begin b\n", good, "\x02end b 0\n\x02done\n"), true,
			[]counts{{suite: "a", passed: 1, skipped: 1}, {suite: "b", passed: 1, skipped: 1}},
		},
		{"a machine that dies", say("\x02begin a\n", cut), false, []counts{{suite: "a", passed: 1, failed: 1}, {suite: "b", failed: 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			f := &follower{
				ctx: t.Context(), out: &out, started: time.Now(), due: []string{"a", "b"},
				result: &result{kernel: kernel{name: "6.1"}, capabilities: map[string]string{}},
			}
			if err := f.follow(tt.says); err != nil {
				t.Fatal(err)
			}
			if f.done != tt.done {
				t.Errorf("done: %v, want %v", f.done, tt.done)
			}
			if err := f.abandon("the machine is gone"); err != nil {
				t.Fatal(err)
			}
			for i := range f.result.suites {
				if l := f.result.suites[i].load; !(l >= 0) {
					t.Errorf("load of the machine is %v", l)
				}
				f.result.suites[i].elapsed, f.result.suites[i].load = 0, 0
			}
			if got := f.result.suites; !reflect.DeepEqual(got, tt.counts) {
				t.Errorf("counts are %+v, want %+v", got, tt.counts)
			}
			ends := map[string]string{}
			for line := range strings.Lines(out.String()) {
				var e struct{ Action, Package, Test string }
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				if e.Test == "" {
					ends[e.Package] = e.Action
				}
			}
			for _, c := range tt.counts {
				want := "pass"
				if c.failed > 0 {
					want = "fail"
				}
				if got := ends["6.1/"+c.suite]; got != want {
					t.Errorf("package %s ends with %q, want %q", c.suite, got, want)
				}
			}
		})
	}
}

func TestFollowRefuses(t *testing.T) {
	for _, says := range []string{"\x02end a 0\n", "\x02begin\n", "\x02boot soon\n", "\x02\n"} {
		f := &follower{ctx: context.Background(), out: io.Discard, result: &result{}}
		if err := f.follow(strings.NewReader(says)); err == nil {
			t.Errorf("%q: no error", says)
		}
	}
	f := &follower{ctx: context.Background(), out: io.Discard, result: &result{}}
	broken := errors.New("broken")
	if err := f.follow(io.MultiReader(strings.NewReader("kernel"), &failing{broken})); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
