package tcbpf

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// objectPin is what BPF_OBJ_PIN and BPF_OBJ_GET take.
type objectPin struct {
	path *byte
	_    [pad]byte
	fd   uint32
	mode uint32 // of the descriptor
}

// Pin gives the object a name in a BPF file system, under which it stays until
// somebody removes that. fs.ErrExist says that the name is taken.
func (f FD) Pin(path string) error {
	name, err := unix.BytePtrFromString(path)
	if err == nil {
		_, err = bpf(unix.BPF_OBJ_PIN, &objectPin{path: name, fd: uint32(f), mode: 0})
	}
	if err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	return nil
}

// pinned returns what has that name; fs.ErrNotExist if nothing has.
func pinned(path string) (FD, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	fd, err := bpf(unix.BPF_OBJ_GET, &objectPin{path: name, fd: 0, mode: 0})
	return FD(fd), err
}

// Pinned is Find of the program with that name in a BPF file system. One of another
// code, or that ok does not take, is as none.
func (o *Object) Pinned(path string, ok func(FD, Maps) bool) (FD, Maps, error) {
	p, err := pinned(path)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil, nil
	}
	if err != nil {
		return -1, nil, fmt.Errorf("open %s: %w", path, err)
	}
	return o.take(p, ok)
}

// KeepsPins tells whether a BPF file system is mounted there.
func KeepsPins(folder string) bool {
	var s unix.Statfs_t
	return unix.Statfs(folder, &s) == nil && s.Type == unix.BPF_FS_MAGIC
}
