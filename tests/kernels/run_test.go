package main

import (
	"slices"
	"testing"
)

func TestExpand(t *testing.T) {
	t.Chdir("../..") // where make calls
	got, err := expand(t.Context(), []string{"tests/kernels/probe", "tests/kernels/...", "pkg/cnierr"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"tests/kernels/probe", "tests/kernels", "pkg/cnierr"}; !slices.Equal(got, want) {
		t.Errorf("suites are %q, want %q", got, want)
	}
	for _, pattern := range []string{"nosuch", "tests/sandbox"} { // tests/sandbox has no tests
		if got, err := expand(t.Context(), []string{pattern}); err == nil {
			t.Errorf("%s: suites are %q, want an error", pattern, got)
		}
	}
}

func TestBootsGuests(t *testing.T) {
	t.Chdir("../..")
	for suite, want := range map[string]bool{"tests/vm": true, "tests/vm/guest": true, "tests/kernels/probe": false} {
		got, err := bootsGuests(t.Context(), []string{suite})
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s boots guests: %v, want %v", suite, got, want)
		}
	}
}
