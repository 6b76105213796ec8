package chain

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

var (
	section   = regexp.MustCompile(`(?m)^## `)
	jsonBlock = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")
)

// preface gives the sandbox the users of NixOS that a conflist names.
const preface = `
for file in passwd group; do cp /etc/$file /run/$file; done
echo 'microvm:x:61001:61002::/:/bin/false' >> /run/passwd
sed -i '/^kvm:/d' /run/group; echo 'kvm:x:61002:' >> /run/group
for file in passwd group; do mount --bind /run/$file /etc/$file; done
`

// The conflists and the commands of docs/runtimes.md work as they stand there.
// Those that start a guest are for tests/vm.
func TestRuntimesDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/runtimes.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, part := range section.Split(string(text), -1)[1:] {
		title, _, _ := strings.Cut(part, "\n")
		t.Run(title, func(t *testing.T) {
			folder := documented(t, part)
			for _, block := range shellBlock.FindAllStringSubmatch(part, -1) {
				if strings.Contains(block[1], "qemu-system") {
					continue
				}
				commands++
				h := newQuietHost(t)
				err := h.do(func() error {
					cmd := exec.Command("sh", "-ec", preface+"set -x\n"+block[1])
					cmd.Env = append(os.Environ(), "CNI_PATH="+strings.Join(cniPath(), ":"), "NETCONFPATH="+folder, "PATH="+bin+":"+os.Getenv("PATH"))
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("%v\n%s", err, out)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if commands < 3 {
		t.Errorf("%d blocks of commands, want at least 3", commands)
	}
}

// documented returns a folder with the conflists of a part of a document, and
// those of conf/.
func documented(t *testing.T, part string) string {
	t.Helper()
	folder := t.TempDir()
	shipped, err := filepath.Glob("../../conf/*.conflist")
	if err != nil || len(shipped) == 0 {
		t.Fatalf("no conflists: %v", err)
	}
	taken := map[string]bool{}
	for _, block := range jsonBlock.FindAllStringSubmatch(part, -1) {
		list, err := libcni.NetworkConfFromBytes([]byte(block[1]))
		if err != nil {
			t.Fatalf("%v\n%s", err, block[1])
		}
		taken[list.Name] = true
		if err := os.WriteFile(filepath.Join(folder, list.Name+".conflist"), []byte(block[1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range shipped {
		conflist, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var named struct{ Name string }
		if err := json.Unmarshal(conflist, &named); err != nil {
			t.Fatal(err)
		}
		if taken[named.Name] { // the document's goes first
			continue
		}
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(file)), conflist, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}
