package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// lockTimeout is how long Lock waits. What the lock guards takes milliseconds,
// but hundreds of processes may wait for it, on a host that is short of time.
const lockTimeout = time.Minute

// Lock waits until no other process holds the lock, at most a minute or as long as
// the context allows. The lock goes with the process, however it ends.
func (k *Kernel) Lock(ctx context.Context) (unlock func(), err error) {
	dir, err := openLockDir(k.lockDir)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", k.lockDir, err)
	}
	if err := k.await(ctx, dir); err != nil {
		return nil, fmt.Errorf("lock %s: %w", k.lockDir, err)
	}
	return sync.OnceFunc(func() { _ = dir.Close() }), nil
}

// await locks the directory, or closes it. The wait is the kernel's, which
// cannot be called back: a lock that comes too late is let go at once.
func (k *Kernel) await(ctx context.Context, dir *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	locked := make(chan error)
	k.waits.Go(func() {
		err := flock(dir)
		select {
		case locked <- err:
		case <-ctx.Done():
			_ = dir.Close()
		}
	})
	select {
	case err := <-locked:
		if err != nil {
			return errors.Join(err, dir.Close())
		}
		return nil
	case <-ctx.Done():
		return cnierr.New(cnierr.TryAgain, "try again; if it stays so, end the process that holds the lock",
			"%w: held by %s", ctx.Err(), lockHolder(k.lockDir))
	}
}

func flock(dir *os.File) error {
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openLockDir makes and opens the directory. Where others than its owner may
// write, one of them could hold the lock for ever.
func openLockDir(path string) (*os.File, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, cnierr.New(cnierr.IO, "see that the directory above it is there and can be written", "%w", err)
	}
	dir, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, cnierr.New(cnierr.IO, "remove what is there in place of the directory", "%w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, errors.Join(cnierr.New(cnierr.IO, "remove the directory; it is made again with mode 0700",
			"it belongs to user %d and has mode %04o: others can take the lock", st.Uid, st.Mode&0o7777), dir.Close())
	}
	return dir, nil
}

// lockHolder says which process holds the lock, as far as it can be told.
func lockHolder(path string) string {
	const unknown = "another process"
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return unknown
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return unknown
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(locks)) {
		// "1: FLOCK  ADVISORY  WRITE 4711 00:19:812 0 EOF"; one that waits has "->".
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != inode {
			continue
		}
		if comm, err := os.ReadFile("/proc/" + f[4] + "/comm"); err == nil {
			return fmt.Sprintf("process %s (%s)", f[4], strings.TrimSpace(string(comm)))
		}
		return "process " + f[4]
	}
	return unknown
}
