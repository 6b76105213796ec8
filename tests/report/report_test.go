package main

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// run gives a stream to a new report and returns what it prints and whether
// the run was good.
func run(t *testing.T, stream string, allowSkip bool) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	r := newReport(&out)
	if err := r.read(strings.NewReader(stream), func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	ok := r.finish(allowSkip)
	return out.String(), ok
}

// goTest runs the real go command over packages of testdata/sample.
func goTest(t *testing.T, packages ...string) string {
	t.Helper()
	args := append([]string{"test", "-json", "-count=1", "-vet=off", "-timeout=2s"}, packages...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "testdata/sample"
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

func TestEachKindOfPackage(t *testing.T) {
	tests := []struct {
		pkg     string
		last    string   // the last line
		printed []string // each is printed exactly once
		ok      bool     // when skips are tolerated
	}{
		{
			"good", "3 passed, 0 failed, 1 skipped",
			[]string{"ok   sample/good: 3 passed, 1 skipped", "sample/good TestSubtests/left_out\n", "no reason\n"},
			true,
		},
		{
			"bad", "2 passed, 2 failed, 0 skipped",
			[]string{
				"FAIL sample/bad TestFails\n", "said before\n", "expected 1, got 2\n",
				"FAIL sample/bad TestSubtestFails/fails\n", "only this counts\n", "FAIL sample/bad in ",
			},
			false,
		},
		{
			"cleanup", "1 passed, 1 failed, 1 skipped",
			[]string{"FAIL sample/cleanup TestLeaks\n", "left behind: tap0\n"},
			false,
		},
		{
			"broken", "0 passed, 1 failed, 0 skipped",
			[]string{"broken_test.go:5:33: undefined: undefined\n", "FAIL sample/broken in"},
			false,
		},
		{
			"setup", "1 passed, 1 failed, 0 skipped",
			[]string{"leaked: a file descriptor\n", "FAIL sample/setup in "},
			false,
		},
		{
			"hung", "0 passed, 1 failed, 0 skipped",
			[]string{"FAIL sample/hung TestHangs/forever: did not finish\n", "panic: test timed out"},
			false,
		},
		{
			"silent", "0 passed, 0 failed, 1 skipped",
			[]string{"skip sample/silent: no test ran\n", "this machine has no KVM\n"},
			true,
		},
		{"filtered", "nothing was tested", []string{"ok   sample/filtered: 0 passed"}, false},
		{"empty", "nothing was tested", []string{"-    sample/empty: no test files\n"}, false},
		{"missing", "0 passed, 1 failed, 0 skipped", []string{"FAIL sample/missing in "}, false},
	}
	for _, tt := range tests {
		t.Run(tt.pkg, func(t *testing.T) {
			stream := goTest(t, "sample/"+tt.pkg)
			out, ok := run(t, stream, true)
			if ok != tt.ok {
				t.Errorf("good run: %v, want %v", ok, tt.ok)
			}
			for _, want := range tt.printed {
				if n := strings.Count(out, want); n != 1 {
					t.Errorf("printed %d times, want once: %q", n, want)
				}
			}
			lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
			if last := lines[len(lines)-1]; last != tt.last {
				t.Errorf("last line: %q, want %q", last, tt.last)
			}
			if t.Failed() {
				t.Logf("report:\n%s", out)
			}
		})
	}
}

func TestSkipFailsTheRun(t *testing.T) {
	out, ok := run(t, goTest(t, "sample/good"), false)
	if ok {
		t.Error("a run with a skipped test is good")
	}
	if !strings.Contains(out, "MICROVM_CNI_ALLOW_SKIP=1") {
		t.Errorf("does not say how to tolerate a skip:\n%s", out)
	}
}

// A go command that is killed ends the stream wherever it is.
func TestStreamThatEnds(t *testing.T) {
	for name, stream := range map[string]string{
		"at once":      "",
		"in a package": `{"Action":"start","Package":"p"}` + "\n" + `{"Action":"run","Package":"p","Test":"T"}` + "\n",
		"in a line":    `{"Action":"run","Package":"p","Test":"T"}` + "\n" + `{"Action":"pa`,
		"not JSON":     "go: cannot find main module\n",
	} {
		t.Run(name, func(t *testing.T) {
			if out, ok := run(t, stream, true); ok {
				t.Errorf("a broken stream is good:\n%s", out)
			}
		})
	}
}
