package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/kernel"
)

func newKernel(t *testing.T, lockDir string) *kernel.Kernel {
	t.Helper()
	k, err := kernel.New(kernel.WithLockDir(lockDir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// lock takes the lock and lets go of it.
func lock(k *kernel.Kernel) error {
	unlock, err := k.Lock(context.Background())
	if err == nil {
		unlock()
	}
	return err
}

func TestLockDir(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(dir string) error
		good bool
	}{
		{"none yet", func(string) error { return nil }, true},
		{"ours", func(dir string) error { return os.Mkdir(dir, 0o700) }, true},
		{"others may look in", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o755)) }, false},
		{"a symbolic link", func(dir string) error { return errors.Join(os.Mkdir(dir+"2", 0o700), os.Symlink(dir+"2", dir)) }, false},
		{"a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "lock")
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			err := lock(newKernel(t, dir))
			if c.good && err != nil {
				t.Error(err)
			}
			var e *cnierr.Error
			if !c.good && (!errors.As(err, &e) || e.Code != cnierr.IO || e.Details == "") {
				t.Errorf("error is %v, want code %d and what to do", err, cnierr.IO)
			}
		})
	}
	if err := lock(newKernel(t, filepath.Join(t.TempDir(), "none", "lock"))); err == nil {
		t.Error("no error without the directory above")
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	k := newKernel(t, filepath.Join(t.TempDir(), "lock"))
	unlock, err := k.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = k.Lock(ctx)
	if want := fmt.Sprintf("held by process %d (", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
}

func TestLookupNames(t *testing.T) {
	for _, lookup := range []func(string) (uint32, error){kernel.LookupUser, kernel.LookupGroup} {
		if id, err := lookup("root"); err != nil || id != 0 {
			t.Errorf("root is %d, error %v", id, err)
		}
		_, err := lookup("nobody-has-this-name")
		var e *cnierr.Error
		if !errors.As(err, &e) || e.Code != cnierr.Config || !strings.Contains(e.Msg, "nobody-has-this-name") || e.Details == "" {
			t.Errorf("error is %v, want code %d, the name and what to do", err, cnierr.Config)
		}
	}
}

func TestSameNetns(t *testing.T) {
	same, err := kernel.SameNetns("/proc/thread-self/ns/net")
	if err != nil || !same {
		t.Errorf("own namespace: %v, error %v", same, err)
	}
	for _, path := range []string{"/proc/thread-self/ns/mnt", os.DevNull, filepath.Join(t.TempDir(), "vanished")} {
		same, err := kernel.SameNetns(path)
		var e *cnierr.Error
		if same || !errors.As(err, &e) || e.Code != cnierr.Environment {
			t.Errorf("%s: %v, error %v, want code %d", path, same, err, cnierr.Environment)
		}
	}
}

func TestSysctlKeys(t *testing.T) {
	k := newKernel(t, filepath.Join(t.TempDir(), "lock"))
	for _, key := range []string{"", ".", "..", "net..ipv4", "net/ipv4/ip_forward", "net.ipv4.", ".net"} {
		if _, err := k.Sysctl(key); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("read %q: error %v, want fs.ErrInvalid", key, err)
		}
		if err := k.SetSysctl(key, "1"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("set %q: error %v, want fs.ErrInvalid", key, err)
		}
	}
}
