package chain

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// The commands of these pages work as they stand there.
func TestDocs(t *testing.T) {
	conflists, err := filepath.Abs("../../conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"chaining", "troubleshooting"} {
		text, err := os.ReadFile("../../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		blocks := shellBlock.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Fatalf("no commands in %s", page)
		}
		for _, block := range blocks {
			runBlock(t, conflists, string(block[1]))
		}
	}
}

// runBlock runs commands on a host of their own.
func runBlock(t *testing.T, conflists, script string) {
	t.Helper()
	h := newQuietHost(t)
	err := h.do(func() error {
		cmd := exec.Command("sh", "-exc", script)
		cmd.Env = append(os.Environ(), "CNI_PATH="+strings.Join(cniPath(), ":"), "NETCONFPATH="+conflists, "PATH="+os.Getenv("PATH")+":"+bin) // bridge is the command
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
