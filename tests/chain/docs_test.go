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
	for _, page := range []string{"chaining", "troubleshooting", "security"} {
		text, err := os.ReadFile("../../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		blocks := shellBlock.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			t.Fatalf("no commands in %s", page)
		}
		for _, block := range blocks {
			out, err := runBlock(t, conflists, string(block[1]))
			for err != nil && goneMap.Match(out) {
				t.Logf("once more: %s", goneMap.Find(out))
				out, err = runBlock(t, conflists, string(block[1]))
			}
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, out)
			}
		}
	}
}

// goneMap is what bpftool says when it goes through all maps of the machine, and that of
// another test goes away meanwhile.
var goneMap = regexp.MustCompile(`can't get (map|prog) by id .*: No such file or directory`)

// negated is a command that has to fail, which the shell's -e does not hold anybody to.
var negated = regexp.MustCompile(`(?m)^! (.*)$`)

// runBlock runs commands on a host of their own.
func runBlock(t *testing.T, conflists, script string) (out []byte, err error) {
	t.Helper()
	h := newQuietHost(t)
	fault := h.do(func() error {
		cmd := exec.Command("sh", "-exc", negated.ReplaceAllString(script, "if $1\nthen exit 1; fi"))
		cmd.Env = append(os.Environ(), "CNI_PATH="+strings.Join(cniPath(), ":"), "NETCONFPATH="+conflists, "PATH="+os.Getenv("PATH")+":"+bin) // bridge is the command
		out, err = cmd.CombinedOutput()
		return nil
	})
	if fault != nil {
		t.Fatal(fault)
	}
	return out, err
}
