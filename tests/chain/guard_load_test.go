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
	var out bytes.Buffer
	err := w.n.h.do(func() error {
		cmd := w.n.h.command(c)
		cmd.Args = slices.Concat([]string{"strace", "-f", "-qq", "-e", "trace=bpf", "-o", calls, cmd.Path}, cmd.Args[1:])
		var err error
		if cmd.Path, err = exec.LookPath("strace"); err != nil {
			return err
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &out, &out
		return cmd.Run()
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
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
