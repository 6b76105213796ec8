// Package chain tests the two plugins as a runtime meets them: the real
// binaries, called by libcni, by cnitool, and by hand through the bare protocol,
// with the real IPAM plugins beside them. Every test has a host of its own.
package chain

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// bin is the folder with the plugins, the IPAM plugins, the plugins that others
// chain after ours, and cnitool.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	// A test mostly waits for the kernel to take links down, not for a core.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0)))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "tests/chain needs root, for network namespaces and taps: sudo make test")
		return 1
	}
	dir, err := os.MkdirTemp("", "microvm-cni-chain-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// The IPAM plugins and a VMM's user must be able to reach it.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = filepath.Join(dir, "bin")
	if err := build(bin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	before := openFiles()
	code := m.Run()
	if after := openFiles(); code == 0 && after > before {
		fmt.Fprintf(os.Stderr, "leak: %d files open at the end, %d at the beginning\n", after, before)
		return 1
	}
	return code
}

// build makes all binaries: ours as they are shipped, and the peers in the
// versions of go.mod.
func build(dir string) error {
	for _, packages := range [][]string{
		{"../../plugins/..."},
		{
			"github.com/containernetworking/cni/cnitool",
			"github.com/containernetworking/plugins/plugins/ipam/host-local",
			"github.com/containernetworking/plugins/plugins/ipam/static",
			"github.com/containernetworking/plugins/plugins/main/bridge",
			"github.com/containernetworking/plugins/plugins/main/tap",
			"github.com/containernetworking/plugins/plugins/meta/bandwidth",
			"github.com/containernetworking/plugins/plugins/meta/firewall",
			"github.com/containernetworking/plugins/plugins/meta/portmap",
			"github.com/containernetworking/plugins/plugins/meta/sbr",
			"github.com/containernetworking/plugins/plugins/meta/tuning",
			"github.com/containernetworking/plugins/plugins/meta/vrf",
		},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-o", dir + "/"}, packages...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %v: %w\n%s", packages, err, out)
		}
	}
	return nil
}

// openFiles counts what this process has open, less what the count itself opens.
func openFiles() int {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(fds) - 1
}
