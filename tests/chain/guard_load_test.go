package chain

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// loads is a run of ADD of microvm-bridge that tells how many guards it loads.
func (w *walk) loads(t *testing.T) int {
	t.Helper()
	return loadsAmong(w.bpfCalls(t))
}

// loadsAmong counts loads of a guard. The kernel lets itself be interrupted, and is asked again.
func loadsAmong(calls string) int {
	return strings.Count(calls, `prog_name="guard"`) - strings.Count(calls, "EAGAIN")
}

// bpfCalls is a run of ADD of microvm-bridge that tells what it asks of BPF.
func (w *walk) bpfCalls(t *testing.T) string {
	t.Helper()
	w.result = w.call(0, "ADD").ok(t).object(t)
	calls := filepath.Join(t.TempDir(), "calls")
	c := call{plugin: "microvm-bridge", verb: "ADD", vm: w.v, stdin: w.n.single(1, conf{"prevResult": w.result})}
	var out, said bytes.Buffer
	err := w.n.h.do(func() error {
		cmd := w.n.h.command(c)
		cmd.Args = slices.Concat([]string{"strace", "-f", "-qq", "-e", "trace=bpf", "-o", calls, cmd.Path}, cmd.Args[1:])
		var err error
		if cmd.Path, err = exec.LookPath("strace"); err != nil {
			return err
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &out, &said
		return cmd.Run()
	})
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out.Bytes(), said.Bytes())
	}
	w.result = answer{stdout: out.String()}.object(t)
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the plugin expects the guest's guard to be is what it becomes: an ADD loads
// one program, and that of the next guest none, nor that of another network with
// the same knobs.
func TestGuardIsLoadedOnce(t *testing.T) {
	static := conf{"type": "static", "addresses": []conf{{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}}}
	two := conf{"type": "static", "addresses": []conf{{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "10.1.0.6/16"}}}
	for _, test := range []struct {
		name  string
		more  conf
		first int
		fixed bool // the address, so that there is no second guest
	}{
		{"IPv4", nil, 1, false},
		{"IPv6", conf{"ipam": conf{"type": "host-local", "ranges": ranges("fd00:1::/64")}}, 1, false},
		{"both", conf{"ipam": conf{"type": "host-local", "ranges": ranges("10.1.0.0/16", "fd00:1::/64")}}, 1, false},
		{"static", conf{"ipam": static}, 1, true},
		{"two of a family, which nobody can know", conf{"ipam": two}, 2, true},
		{"no addresses", conf{"ipam": nil, "isGateway": nil}, 1, false},
		{"isolated", conf{"portIsolation": true}, 1, false},
		{"a closed host", conf{"guard": conf{"hostAccess": "gateway"}}, 1, false},
		{"more of its own", conf{"guard": conf{"addresses": []string{"10.2.0.0/24"}, "macs": []string{"02:00:00:00:99:99"}}}, 1, false},
		{"no guard", unguarded, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			n := h.pair(test.more)
			one, another := &walk{n: n, v: h.vm("vm1")}, &walk{n: n, v: h.vm("vm2")}
			if got := one.loads(t); got != test.first {
				t.Errorf("the first guest's ADD loads %d guards, want %d", got, test.first)
			}
			if !test.fixed {
				if got := another.loads(t); got != 0 {
					t.Errorf("the next guest's ADD loads %d guards", got)
				}
				n.remove(another.v)
			}
			beside := h.network("beside", newest, tap, gateway.with(test.more).with(conf{"bridge": "br1"}))
			elsewhere := &walk{n: beside, v: h.vm("vm3")}
			if got := elsewhere.loads(t); got != max(0, test.first-1) {
				t.Errorf("the ADD of another network's first guest loads %d guards", got)
			}
			beside.remove(elsewhere.v)
			n.remove(one.v)
		})
	}
}

// The program outlives the guests of a host that has a BPF file system, which spares the
// load to one that comes when there is no other, and the search to all. GC ends that when
// there is nobody left.
func TestGuardIsKept(t *testing.T) {
	const kept = "/sys/fs/bpf/microvm-cni"
	h := newHost(t)
	h.sh("mount -t bpf bpf /sys/fs/bpf")
	n := h.pair(nil)
	guest := func(n *network, id string, loads int) {
		t.Helper()
		w := &walk{n: n, v: h.vm(id)}
		calls := w.bpfCalls(t)
		if got := loadsAmong(calls); got != loads {
			t.Errorf("the ADD of %s loads %d guards, want %d", id, got, loads)
		}
		if searched := strings.Contains(calls, "BPF_PROG_GET_NEXT_ID"); searched != (loads > 0) {
			t.Errorf("the ADD of %s, which loads %d guards, goes through all programs: %v", id, loads, searched)
		}
		w.call(1, "CHECK").silent(t)
		n.remove(w.v)
	}
	names := func() []string { return strings.Fields(h.sh("ls " + kept + " 2>/dev/null | cat")) }
	anything := func() bool { return h.sh("ls -d "+kept+" 2>/dev/null | cat") != "" }

	// An ADD whose answer nobody gets is taken back after all was done.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	w := &walk{n: n, v: h.vm("vm0")}
	w.result = w.call(0, "ADD").ok(t).object(t)
	err = h.do(func() error {
		c := call{plugin: "microvm-bridge", verb: "ADD", vm: w.v, stdin: n.single(1, conf{"prevResult": w.result})}
		cmd := h.command(c)
		cmd.Stdin, cmd.Stdout = strings.NewReader(c.stdin), full
		return cmd.Run()
	})
	if err == nil || anything() {
		t.Errorf("an ADD that failed (%v) kept %v", err, names())
	}
	n.remove(w.v)

	guest(n, "vm1", 1)
	guest(n, "vm2", 0)
	mine := names()
	if len(mine) != 1 {
		t.Errorf("kept: %v", mine)
	}
	closed := h.network("closed", newest, tap, gateway.with(conf{"bridge": "br1", "guard": conf{"metadata": false}}))
	guest(closed, "vm3", 1)
	guest(closed, "vm4", 0)
	if got := names(); len(got) != 2 || !slices.Contains(got, mine[0]) {
		t.Errorf("kept: %v", got)
	}
	programs := h.sh("for pin in " + kept + "/*; do bpftool prog show pinned $pin; done | sed -n 's/^\\([0-9]*\\): .* name guard .*/\\1/p'")
	if len(strings.Fields(programs)) != 2 {
		t.Errorf("programs kept: %q", programs)
	}
	lives := h.vm("vm5")
	n.add(lives)
	if err := n.gc(lives); err != nil || len(names()) != 2 {
		t.Errorf("GC (%v) with a guest left %v", err, names())
	}
	n.remove(lives)
	if err := n.gc(); err != nil || anything() {
		t.Errorf("GC (%v) without a guest left %v", err, names())
	}
	for _, id := range strings.Fields(programs) {
		if !eventually(func() bool { return h.sh("bpftool prog show id "+id+" 2>/dev/null | cat") == "" }) {
			t.Errorf("program %s stays without anybody who has it", id)
		}
	}
	guest(n, "vm6", 1)
}
