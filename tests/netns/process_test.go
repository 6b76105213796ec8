package netns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/kernel"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// victimEnv holds the lock directory of the process that is to be killed.
const victimEnv = "MICROVM_CNI_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// victim takes the lock, makes a tap that it keeps and one that it does not,
// says so, and waits for its end.
func victim(lockDir string) error {
	k, err := kernel.New(kernel.WithLockDir(lockDir))
	if err != nil {
		return err
	}
	if _, err = k.Lock(context.Background()); err != nil {
		return err
	}
	kept, err := k.Create(linkspec.Link{Kind: linkspec.Tap, Name: "kept"})
	if err != nil {
		return err
	}
	if err = kept.Keep(); err != nil {
		return err
	}
	if _, err = k.Create(linkspec.Link{Kind: linkspec.Tap, Name: "draft"}); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// A process that is killed leaves neither the lock nor a tap that it did not keep.
func TestKilledProcess(t *testing.T) {
	k := newKernel(t)
	dir := filepath.Join(t.TempDir(), "lock")
	process := exec.Command("/proc/self/exe")
	process.Env = append(os.Environ(), victimEnv+"="+dir)
	stdin, err := process.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := process.StdoutPipe()
	must(t, err)
	must(t, process.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("process says %q, error %v", line, err)
	}
	look(t, k, "draft")
	look(t, k, "kept")
	must(t, process.Process.Kill())
	_ = process.Wait()

	if _, err = k.Link("draft"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("draft: error %v", err)
	}
	look(t, k, "kept")
	unlock, err := openKernel(t, dir).Lock(t.Context())
	must(t, err)
	unlock()
}

func TestSameNetns(t *testing.T) {
	host := sandbox.NewHost(t)
	other := host.NewNetns("vm1")
	host.Enter()
	for path, want := range map[string]bool{host.Path(): true, other: false, "/proc/thread-self/ns/net": true} {
		if same, err := kernel.SameNetns(path); err != nil || same != want {
			t.Errorf("%s: %v, error %v, want %v", path, same, err, want)
		}
	}
	host.DeleteNetns("vm1")
	if same, err := kernel.SameNetns(other); !errors.Is(err, fs.ErrNotExist) || same {
		t.Errorf("vanished: %v, error %v", same, err)
	}
}

// Parameters and taps are those of the host, not of the test's own namespace.
func TestHostIsItsOwn(t *testing.T) {
	host := sandbox.NewHost(t, sandbox.LinksMayStay)
	host.Do(func() {
		k, err := kernel.New()
		must(t, err)
		create(t, k, linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
		must(t, k.Close())
	})
	if links := host.Links(); strings.Join(links, " ") != "tap0" {
		t.Errorf("links are %q", links)
	}
	k := openKernel(t, filepath.Join(t.TempDir(), "lock"))
	if _, err := k.Link("tap0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tap is outside of the host: error %v", err)
	}
}
