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
	// The kernel lets itself be interrupted, and is asked again.
	return strings.Count(string(text), `prog_name="guard"`) - strings.Count(string(text), "EAGAIN")
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

// Whoever keeps the program, as docs/security.md has it, spares a host the load for
// a guest that comes when there is no other.
func TestGuardIsKept(t *testing.T) {
	const pin = "/sys/fs/bpf/microvm-guard"
	h := newHost(t)
	h.sh("mount -t bpf bpf /sys/fs/bpf")
	n := h.pair(nil)
	guest := func(id string, loads int, then func(port string)) {
		t.Helper()
		w := &walk{n: n, v: h.vm(id)}
		if got := w.loads(t); got != loads {
			t.Errorf("the ADD of %s loads %d guards, want %d", id, got, loads)
		}
		w.call(1, "CHECK").silent(t)
		then(strings.TrimSpace(h.sh("bridge link show | sed -n 's/^[0-9]*: \\([^:@]*\\).* master br0 .*/\\1/p'")))
		n.remove(w.v)
	}
	var program string
	guest("vm1", 1, func(port string) {
		program = strings.TrimSpace(h.sh("tc filter show dev " + port + ` ingress | sed -n 's/.*guard.* id \([0-9]*\).*/\1/p'`))
		h.sh("bpftool prog pin id " + program + " " + pin)
	})
	guest("vm2", 0, func(string) { h.sh("rm " + pin) })
	if !eventually(func() bool { return h.sh("bpftool prog show id "+program+" 2>/dev/null | cat") == "" }) {
		t.Errorf("program %s stays without anybody who has it", program)
	}
	guest("vm3", 1, func(string) {})
}
