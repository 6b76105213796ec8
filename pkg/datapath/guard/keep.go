package guard

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// A program is kept when its last port goes, so that the next guest of a host that has
// none finds it: in the host's BPF file system, if there is one where they are mounted,
// by a name for each network namespace, version of the program, and constants. It is no
// state: nothing depends on it, and it ends with the host's uptime.
const (
	bpffs  = "/sys/fs/bpf"
	folder = bpffs + "/microvm-cni"
)

// mostKept bounds how many programs are kept on a host: more than a conflist has
// networks of different knobs.
const mostKept = 8

// home begins the names of what is kept in a network namespace, whose interface
// indexes it goes by.
func home(netns uint64) string { return fmt.Sprintf("%d-", netns) }

// version begins the names of what is kept there of that program.
func (w wanted) version(program *tcbpf.Object) string { return home(w.netns) + program.Tag() + "-" }

// path is where a program with these constants is kept.
func (w wanted) path(program *tcbpf.Object) string {
	digest := sha256.Sum256(w.shared[:knobs])
	return filepath.Join(folder, fmt.Sprintf("%s%x", w.version(program), digest[:8]))
}

// keep keeps the port's program, unless one like it is kept already. A host without a BPF
// file system, or with one that nobody may write to, keeps nothing, which is no error.
func (w wanted) keep(port int) error {
	program, err := w.program()
	if err != nil {
		return err
	}
	if _, err = os.Lstat(w.path(program)); !errors.Is(err, fs.ErrNotExist) || !tcbpf.KeepsPins(bpffs) {
		return nil
	}
	err = w.pin(program, port)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}

// pin gives the port's program its name. What is of another version goes, and the oldest
// of what is too much.
func (w wanted) pin(program *tcbpf.Object, port int) error {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	all, err := keptNow()
	if err != nil {
		return err
	}
	for i, f := range all {
		outdated := strings.HasPrefix(f.Name(), home(w.netns)) && !strings.HasPrefix(f.Name(), w.version(program))
		if outdated || i >= mostKept-1 {
			if err = drop(f.Name()); err != nil {
				return err
			}
		}
	}
	there, err := filter(port).Observe()
	if err != nil {
		return err
	}
	p, err := tcbpf.ProgramByID(there.ID)
	if err == nil {
		err = errors.Join(p.Pin(w.path(program)), p.Close())
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) { // somebody was faster, or took the port or the folder away
		return nil
	}
	return err
}

// errForeign says that what is kept would be in somebody else's hands: whoever may write
// to a BPF file system could have made the folder, or a link to another.
var errForeign = fmt.Errorf("%s is not a folder of root's alone: remove it", folder)

// keptNow is all that is kept, newest first.
func keptNow() (all []fs.FileInfo, err error) {
	there, err := os.Lstat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s, ok := there.Sys().(*syscall.Stat_t); !ok || !there.IsDir() || s.Uid != 0 || there.Mode().Perm()&0o022 != 0 {
		return nil, errForeign
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		f, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since
		case err != nil:
			return nil, err
		case f.Mode().IsRegular():
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	return all, nil
}

func drop(name string) error {
	if err := os.Remove(filepath.Join(folder, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Forget ends what is kept for guests to come in the thread's network namespace. Ports
// do not lose what they have.
func Forget() error {
	netns, err := tcbpf.Namespace()
	if err != nil {
		return err
	}
	all, err := keptNow()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range all {
		if strings.HasPrefix(f.Name(), home(netns)) {
			errs = append(errs, drop(f.Name()))
		}
	}
	if err = drop(""); !errors.Is(err, fs.ErrExist) { // there may be what is kept elsewhere
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
