package guard

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReasons holds the names to those of the program.
func TestReasons(t *testing.T) {
	source, err := os.ReadFile("bpf/rules.h")
	if err != nil {
		t.Fatal(err)
	}
	enum := regexp.MustCompile(`(?s)enum reason \{(.*?)\}`).FindSubmatch(source)
	if enum == nil {
		t.Fatal("no enum reason in bpf/rules.h")
	}
	var names []string
	for _, word := range strings.Split(string(enum[1]), ",") {
		if word = strings.TrimSpace(word); word != "" {
			names = append(names, strings.ReplaceAll(strings.ToLower(word), "_", "-"))
		}
	}
	if n := len(names) - 1; n != len(reasons) || names[n] != "reasons" {
		t.Fatalf("%d reasons in C, %d in Go", n, len(reasons))
	}
	for i, r := range reasons {
		if r.name != names[i] || Reason(i).String() != r.name || Reason(i).Meaning() == "" {
			t.Errorf("reason %d is %s in C, %s in Go", i, names[i], r.name)
		}
	}
	if Reason(len(reasons)).String() != "unknown" {
		t.Error("a reason that there is not has a name")
	}
}
