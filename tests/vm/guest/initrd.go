//go:build linux

package guest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

const scriptPath = "/run.sh" // where scripts/guest/init looks for it

// buildInitrd returns a file, without a name, that holds the base initramfs and after it an archive
// of the config's script and files: the kernel unpacks one archive after the other.
func buildInitrd(dir, base string, c Config) (*os.File, error) {
	out, err := os.CreateTemp(dir, "initrd")
	if err != nil {
		return nil, err
	}
	if err = fillInitrd(out, base, c); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

func fillInitrd(out *os.File, base string, c Config) error {
	if err := os.Remove(out.Name()); err != nil {
		return err
	}
	// QEMU's user opens the file once more through /proc, which asks for its mode but no path.
	if err := out.Chmod(0o644); err != nil {
		return err
	}
	first, err := os.ReadFile(base)
	if err != nil {
		return err
	}
	second, err := packFiles(c)
	if err != nil {
		return err
	}
	for _, part := range [][]byte{first, make([]byte, padding(len(first))), second} {
		if _, err = out.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// packFiles returns the archive of what is the config's own.
func packFiles(c Config) ([]byte, error) {
	archive := &cpioWriter{dirs: map[string]bool{"/": true}}
	if c.Script != "" {
		archive.add(scriptPath, 0o755, []byte(c.Script))
	}
	for _, inGuest := range slices.Sorted(maps.Keys(c.Files)) {
		info, err := os.Stat(c.Files[inGuest])
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(c.Files[inGuest])
		if err != nil {
			return nil, err
		}
		archive.add(inGuest, uint32(info.Mode().Perm()), content)
	}
	archive.close()
	return archive.buf.Bytes(), nil
}

// cpioWriter writes an archive in the format that the kernel's documentation calls newc
// (driver-api/early-userspace/buffer-format).
type cpioWriter struct {
	buf   bytes.Buffer
	dirs  map[string]bool // folders that are in the archive already
	inode int
}

const (
	modeFile = 0o100000
	modeDir  = 0o040000
)

// add adds a file, and the folders on the way to it.
func (w *cpioWriter) add(name string, permissions uint32, content []byte) {
	name = path.Clean("/" + name)
	w.addFolder(path.Dir(name))
	w.entry(strings.TrimPrefix(name, "/"), modeFile|permissions, content)
}

func (w *cpioWriter) addFolder(name string) {
	if w.dirs[name] {
		return
	}
	w.dirs[name] = true
	w.addFolder(path.Dir(name))
	w.entry(strings.TrimPrefix(name, "/"), modeDir|0o755, nil)
}

func (w *cpioWriter) close() { w.entry("TRAILER!!!", 0, nil) }

// entry writes one header, name and content. Owner, time and device numbers are all zero.
func (w *cpioWriter) entry(name string, mode uint32, content []byte) {
	w.inode++
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		w.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	w.buf.WriteString(header + name + "\x00")
	w.buf.Write(make([]byte, padding(len(header)+len(name)+1)))
	w.buf.Write(content)
	w.buf.Write(make([]byte, padding(len(content))))
}

// padding returns how many bytes are missing to a multiple of four.
func padding(size int) int { return (4 - size%4) % 4 }
