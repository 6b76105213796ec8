package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/tests/sandbox"
	"github.com/microvm-cni/microvm-cni/tests/vm/guest"
)

// openTun gives the sandbox a tun device that all may open, as udev makes it,
// and a kernel that the VMM's user can read.
const openTun = `
mkdir /run/dev; mount -t tmpfs tmpfs /run/dev
mknod -m 666 /run/dev/tun c 10 200; mount --bind /run/dev/tun /dev/net/tun
cp -L "$KERNEL" /run/vmlinuz; chmod 644 /run/vmlinuz
export KERNEL=/run/vmlinuz
`

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// The commands of docs/runtimes.md that start a VMM work as they stand there.
// Its kernel finds no root file system, and the VMM ends.
func TestRuntimesDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/runtimes.md")
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(block[1], "qemu-system") {
			continue
		}
		ran++
		h := sandbox.NewHost(t)
		h.Do(func() {
			cmd := exec.Command("sh", "-ec", openTun+"set -x\n"+block[1])
			cmd.Env = append(os.Environ(), "CNI_PATH="+bin, "NETCONFPATH="+top+"/conf", "PATH="+bin+":"+os.Getenv("PATH"),
				"KERNEL="+top+"/.cache/kernel/vmlinuz", "CMDLINE=console=ttyS0 panic=-1"+guest.ClockArguments())
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Unable to mount root fs") {
				t.Errorf("%v, want a kernel that looks for its file system\n%s", err, out)
			}
		})
	}
	if ran != 1 {
		t.Errorf("%d blocks of commands start a VMM, want one", ran)
	}
}
