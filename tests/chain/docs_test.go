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

// The commands of docs/chaining.md work as they stand there.
func TestChainingDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/chaining.md")
	if err != nil {
		t.Fatal(err)
	}
	conflists, err := filepath.Abs("../../conf")
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("no commands")
	}
	for _, block := range blocks {
		h := newQuietHost(t)
		err := h.do(func() error {
			cmd := exec.Command("sh", "-exc", string(block[1]))
			cmd.Env = append(os.Environ(), "CNI_PATH="+strings.Join(cniPath(), ":"), "NETCONFPATH="+conflists, "PATH="+bin+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
