package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

// withBPFFS is a host with a BPF file system.
func withBPFFS(t *testing.T) {
	t.Helper()
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	command(t, "mount -t bpf bpf "+bpffs)
}

// visit is a guest that comes and goes, and the program that it had.
func visit(t *testing.T, port int, r Rules, keep bool) uint32 {
	t.Helper()
	command(t, fmt.Sprintf("ip link add port%d index %d type veth peer name guest%d", port, port, port))
	g := New()
	if err := g.Attach(port, r); err != nil {
		t.Fatal(err)
	}
	id := inPlace(t, port, r)
	if keep {
		if err := g.Keep(); err != nil {
			t.Fatal(err)
		}
	}
	command(t, fmt.Sprintf("ip link del port%d", port))
	return id
}

func namesOfKept(t *testing.T) (names []string) {
	t.Helper()
	all, err := keptNow()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names
}

// eventually waits for what nobody tells of, as the kernel's being through with a program.
func eventually(t *testing.T, done func() bool) bool {
	t.Helper()
	deadline, again := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-deadline:
			return false
		case <-again.C:
		}
	}
	return true
}

// lives tells of a program that has no port whether the kernel still has it.
func lives(t *testing.T, id uint32) bool {
	t.Helper()
	p, err := tcbpf.ProgramByID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err = errors.Join(err, p.Close()); err != nil {
		t.Fatal(err)
	}
	return true
}

// The guest that comes when there is no other gets the program of the last one, with
// rules of its own; one with other knobs gets another, which is kept too.
func TestKept(t *testing.T) {
	withBPFFS(t)
	first := visit(t, 100, rulesOf(1), true)
	if again := visit(t, 200, rulesOf(2), true); again != first {
		t.Errorf("the next has program %d, not %d", again, first)
	}
	if again := visit(t, 100, rulesOf(3), true); again != first {
		t.Errorf("the next, with an index that was there, has program %d, not %d", again, first)
	}
	if names := namesOfKept(t); len(names) != 1 {
		t.Errorf("kept: %v", names)
	}
	vrrp := frames.With(rulesOf(4), func(r *Rules) { r.VRRP = true })
	other := visit(t, 300, vrrp, true)
	if other == first {
		t.Error("other knobs, and the same program")
	}
	if names := namesOfKept(t); len(names) != 2 {
		t.Errorf("kept: %v", names)
	}
	if again := visit(t, 300, vrrp, false); again != other {
		t.Errorf("the next has program %d, not %d", again, other)
	}
	if err := Forget(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays, and in it %v (%v)", folder, namesOfKept(t), err)
	}
	if !eventually(t, func() bool { return !lives(t, first) && !lives(t, other) }) {
		t.Error("programs stay that nobody has")
	}
	if err := Forget(); err != nil {
		t.Errorf("nothing to forget: %v", err)
	}
	// A plugin may have been killed before it had put anything into it.
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Forget(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays: %v", folder, err)
	}
}

// A port that is there keeps its guard when what is kept for others goes.
func TestForgetLeavesPorts(t *testing.T) {
	withBPFFS(t)
	visit(t, 100, rulesOf(1), true)
	s := newVeth(t, 200)
	mustAttach(t, 200, rulesOf(2))
	if err := Forget(); err != nil {
		t.Fatal(err)
	}
	if got := verdictOf(t, s, 200, probe(1)); got.String() != "source-mac" {
		t.Error(got)
	}
	if got := verdictOf(t, s, 200, probe(2)); got.String() != "passed" {
		t.Error(got)
	}
}

// Nothing is kept before somebody says so, nor where nothing can be.
func TestNotKept(t *testing.T) {
	t.Run("not asked for", func(t *testing.T) {
		withBPFFS(t)
		id := visit(t, 100, rulesOf(1), false)
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", folder, err)
		}
		if !eventually(t, func() bool { return !lives(t, id) }) {
			t.Error("the program outlives its ports")
		}
	})
	t.Run("no BPF file system", func(t *testing.T) {
		sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
		command(t, "mount -t tmpfs tmpfs "+bpffs)
		id := visit(t, 100, rulesOf(1), true)
		if there, err := os.ReadDir(bpffs); err != nil || len(there) != 0 {
			t.Errorf("in %s: %v, %v", bpffs, there, err)
		}
		if !eventually(t, func() bool { return !lives(t, id) }) {
			t.Error("the program outlives its ports")
		}
		if err := Forget(); err != nil {
			t.Error(err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		withBPFFS(t)
		command(t, "mount -o remount,ro "+bpffs)
		id := visit(t, 100, rulesOf(1), true)
		if names := namesOfKept(t); len(names) != 0 {
			t.Errorf("kept: %v", names)
		}
		if !eventually(t, func() bool { return !lives(t, id) }) {
			t.Error("the program outlives its ports")
		}
	})
	elsewhere := func(at, link string) func() error {
		return func() error { return errors.Join(os.Mkdir(at, 0o700), os.Symlink(link, folder)) }
	}
	for name, put := range map[string]func() error{
		"a link":          elsewhere("/run/others", "/run/others"),
		"a link into it":  elsewhere(bpffs+"/others", "others"),
		"a user's":        func() error { return errors.Join(os.Mkdir(folder, 0o700), os.Chown(folder, 1000, 0)) },
		"open to a group": func() error { return errors.Join(os.Mkdir(folder, 0o700), os.Chmod(folder, 0o770)) },
	} {
		t.Run(name, func(t *testing.T) {
			withBPFFS(t)
			if err := put(); err != nil {
				t.Fatal(err)
			}
			w, err := want(rulesOf(1))
			if err != nil {
				t.Fatal(err)
			}
			m, err := spec(t).Maps[lastMap].Make()
			if err != nil {
				t.Fatal(err)
			}
			there := []string{home(w.netns) + "0"}
			for i := range mostKept + 1 {
				there = append(there, strconv.Itoa(i))
			}
			for _, name := range there {
				if m.Pin(filepath.Join(folder, name)) != nil { // which is no BPF file system
					err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), nil, 0o600))
				}
			}
			if err = errors.Join(err, m.Close()); err != nil {
				t.Fatal(err)
			}
			command(t, "ip link add port100 index 100 type veth peer name guest100")
			g := New()
			if err := g.Attach(100, rulesOf(1)); err != nil {
				t.Fatal(err)
			}
			if err := g.Keep(); !errors.Is(err, errForeign) {
				t.Errorf("Keep: %v", err)
			}
			if err := Forget(); !errors.Is(err, errForeign) {
				t.Errorf("Forget: %v", err)
			}
			if after, err := os.ReadDir(folder); err != nil || len(after) != len(there) {
				t.Errorf("of %d there are %v, %v", len(there), after, err)
			}
			if _, state, err := Observe(100); state != InPlace || err != nil {
				t.Errorf("%v, %v", state, err)
			}
		})
	}
}

// What has the name of a program need not be that: it is no reason to fail, nor to trust it.
func TestKeptByAnother(t *testing.T) {
	const redirect = 23 // a helper of the kernel
	for name, put := range map[string]func(w wanted) error{
		"another program": func(w wanted) error {
			other, err := tcbpf.Redirect(redirect, 1).Load("other")
			if err != nil {
				return err
			}
			return errors.Join(other.Pin(w.path(spec(t))), other.Close())
		},
		"one with other constants": func(w wanted) error {
			closed, err := want(frames.With(rulesOf(1), func(r *Rules) { r.VRRP = true }))
			if err != nil {
				return err
			}
			l, err := closed.load()
			if err != nil {
				return err
			}
			return errors.Join(l.program.Pin(w.path(spec(t))), l.Close())
		},
		"one that lets all pass": func(w wanted) error {
			end := bytes.Index(object, []byte{0x95, 0, 0, 0, 0, 0, 0, 0})
			if end < 8 {
				return errors.New("the program never ends")
			}
			changed := bytes.Clone(object)
			copy(changed[end-8:], []byte{0xb4, 0, 0, 0, 0, 0, 0, 0}) // w0 = TC_ACT_OK
			open, err := tcbpf.ParseObject(changed)
			if err != nil {
				return err
			}
			w.program = func() (*tcbpf.Object, error) { return open, nil }
			l, err := w.load()
			if err != nil {
				return err
			}
			return errors.Join(l.program.Pin(w.path(spec(t))), l.Close())
		},
		"a map": func(w wanted) error {
			m, err := spec(t).Maps[lastMap].Make()
			if err != nil {
				return err
			}
			return errors.Join(m.Pin(w.path(spec(t))), m.Close())
		},
		"a folder":          func(w wanted) error { return os.Mkdir(w.path(spec(t)), 0o700) },
		"a link to nowhere": func(w wanted) error { return os.Symlink("nowhere", w.path(spec(t))) },
	} {
		t.Run(name, func(t *testing.T) {
			withBPFFS(t)
			w, err := want(rulesOf(1))
			if err != nil {
				t.Fatal(err)
			}
			if err = errors.Join(os.Mkdir(folder, 0o700), put(w)); err != nil {
				t.Fatal(err)
			}
			visit(t, 100, rulesOf(1), true)
		})
	}
}

// Of another version nothing is kept, and of this one no more than a few, of which the
// newest are worth most.
func TestMostKept(t *testing.T) {
	withBPFFS(t)
	w, err := want(rulesOf(1))
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.load()
	if err != nil {
		t.Fatal(err)
	}
	older := home(w.netns) + "0123456789abcdef-0123456789abcdef"
	elsewhere := "1-0123456789abcdef-0123456789abcdef"
	if err = os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{older, elsewhere} {
		if err = l.program.Pin(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err = l.Close(); err != nil {
		t.Fatal(err)
	}
	visit(t, 100, rulesOf(1), true)
	if names := namesOfKept(t); len(names) != 2 || slices.Contains(names, older) || !slices.Contains(names, elsewhere) {
		t.Errorf("kept: %v", names)
	}
	if err = Forget(); err != nil {
		t.Fatal(err)
	}
	if names := namesOfKept(t); !slices.Equal(names, []string{elsewhere}) {
		t.Errorf("kept elsewhere: %v", names)
	}
	var newest []string
	for i := range mostKept {
		limit := 1000 + i
		r := frames.With(rulesOf(1), func(r *Rules) { r.StormLimit = limit })
		limited, err := want(r)
		if err != nil {
			t.Fatal(err)
		}
		visit(t, 100, r, true)
		newest = append(newest, filepath.Base(limited.path(spec(t))))
	}
	slices.Reverse(newest)
	if names := namesOfKept(t); !slices.Equal(names, newest) {
		t.Errorf("kept: %v, not %v", names, newest)
	}
	for _, name := range newest {
		if !strings.HasPrefix(name, w.version(spec(t))) {
			t.Errorf("%s is not one of %s", name, w.version(spec(t)))
		}
	}
}
