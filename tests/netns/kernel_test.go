// Package netns tests pkg/kernel on the real kernel, in network namespaces of
// its own.
package netns

import (
	"path/filepath"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/guard"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/splice"
	"github.com/microvm-cni/microvm-cni/pkg/kernel"
	"github.com/microvm-cni/microvm-cni/pkg/kernel/kerneltest"
	"github.com/microvm-cni/microvm-cni/pkg/nat"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
	"github.com/microvm-cni/microvm-cni/pkg/shape"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// newKernel moves the test to a new host, and returns its kernel.
func newKernel(t *testing.T) *kernel.Kernel {
	t.Helper()
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	return openKernel(t, filepath.Join(t.TempDir(), "lock"))
}

// openKernel returns the kernel of the host that the test runs in.
func openKernel(t *testing.T, lockDir string) *kernel.Kernel {
	t.Helper()
	k, err := kernel.New(kernel.WithLockDir(lockDir), kernel.WithNAT(nat.New()), kernel.WithShaper(shape.Kernel{}), kernel.WithGuards(guard.New()))
	must(t, err)
	t.Cleanup(func() { must(t, k.Close()) })
	return k
}

func TestConformance(t *testing.T) {
	kerneltest.Run(t, func(t *testing.T) reconcile.Kernel {
		t.Helper()
		return newKernel(t)
	})
}

func TestNetnsConformance(t *testing.T) {
	kerneltest.RunNetns(t, func(t *testing.T) (reconcile.Kernel, string) {
		t.Helper()
		h := sandbox.NewHost(t, sandbox.LinksMayStay)
		path := h.NewNetns("vmm")
		h.Enter()
		k, err := kernel.New(kernel.WithSplicer(splice.Splicer{}))
		must(t, err)
		t.Cleanup(func() { must(t, k.Close()) })
		return k, path
	})
}
