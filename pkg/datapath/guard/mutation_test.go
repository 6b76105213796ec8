//go:build mutation

package guard

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/frames"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

var clang = flag.String("clang", "clang-14", "the compiler of the program")

// unreachable are rules that no frame can show to be missing.
var unreachable = map[string]string{
	"truncated-ethernet": "the kernel hands no such frame to a program, nor does it take one from a tap",
}

// TestWithoutRule leaves out each rule in turn. One of the attacks that it stops
// must get through then.
func TestWithoutRule(t *testing.T) {
	for i := range reasons {
		why := Reason(i)
		if why == passed || unreachable[why.String()] != "" {
			continue
		}
		t.Run(why.String(), func(t *testing.T) {
			mutant := without(t, why)
			if !through(t, mutant, why) {
				t.Error("nothing gets through without the rule: it is not tested, or does nothing")
			}
		})
	}
}

// without compiles the program without a rule.
func without(t *testing.T, why Reason) *tcbpf.Object {
	t.Helper()
	object := filepath.Join(t.TempDir(), "mutant.o")
	cmd := exec.Command(*clang, append(strings.Fields(flags), fmt.Sprintf("-DWITHOUT=%d", why), "-target", "bpfel", "-c", "bpf/guard.c", "-o", object)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	raw, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	s, err := tcbpf.ParseObject(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flags are those of generate.go, without -Werror.
const flags = "-O2 -mcpu=v3 -I/usr/include/x86_64-linux-gnu"

// through tells whether an attack that the rule stops passes the mutant.
func through(t *testing.T, mutant *tcbpf.Object, why Reason) bool {
	t.Helper()
	switch why.String() {
	case "host":
		m := newMachine(t, mutant, hostRules("none", newRouter(t, "1")))
		passes, _ := m.judge(t, frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoTCP, frames.TCP(99, 22))))
		return passes
	case "multicast-groups":
		m := newMachine(t, mutant, frames.With(frames.Typical, func(r *Rules) { r.GroupLimit = 1 }))
		first, _ := m.judge(t, frames.Report(143, 1))
		second, _ := m.judge(t, frames.Report(131, 0))
		return first && second
	case "storm":
		m := newMachine(t, mutant, frames.With(frames.Typical, func(r *Rules) { r.StormLimit = 1 }))
		first, _ := m.judge(t, frames.OwnARP)
		second, _ := m.judge(t, frames.OwnARP)
		third, _ := m.judge(t, frames.OwnARP)
		return first && second && third
	case "segment-size":
		sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
		defer parsedAs(mutant)()
		p := newTap(t)
		if err := Attach(p.port, frames.Typical); err != nil {
			t.Fatal(err)
		}
		before, long := p.counts(t), gso(1, 34, 16)
		binary.NativeEndian.PutUint16(long[4:], 1481)
		if err := p.send(frames.Out(frames.TypeIPv4, frames.IP4(frames.Guest4, frames.Gateway4, frames.ProtoTCP, frames.TCP(1, 2), frames.Zeros(4000))), long); err != nil {
			t.Fatal(err)
		}
		return p.verdict(t, before) == passed
	case "truncated-ip4", "truncated-ip6", "vlan-not-allowed", "vlan-type", "vlan-stacked", "checksum":
		return throughWire(t, mutant, why)
	}
	for _, a := range frames.Attacks {
		if a.By != why.String() {
			continue
		}
		if passes, _ := newMachine(t, mutant, a.Rules).judge(t, a.Frame); passes {
			return true
		}
	}
	return false
}

// throughWire is through for what only a real tap can show.
func throughWire(t *testing.T, mutant *tcbpf.Object, why Reason) bool {
	t.Helper()
	sandbox.NewHost(t, sandbox.LinksMayStay).Enter()
	defer parsedAs(mutant)()
	p := newTap(t)
	all := frames.Offloads
	for _, a := range slices.Concat(frames.Attacks, frames.Trunk) {
		all = append(all, frames.Offload{Attempt: a})
	}
	for _, a := range all {
		if a.By != why.String() {
			continue
		}
		if err := Attach(p.port, a.Rules); err != nil {
			t.Fatal(err)
		}
		before := p.counts(t)
		header := unfinished(a)
		if a.Start == 0 {
			header = [virtioHeader]byte{}
		}
		if err := p.send(a.Frame, header); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Fatal(err)
		}
		if p.verdict(t, before) == passed {
			return true
		}
	}
	return false
}

// parsedAs puts a mutant into the program's place, until what it returns is called.
func parsedAs(mutant *tcbpf.Object) (end func()) {
	whole := parsed
	parsed = func() (*tcbpf.Object, error) { return mutant, nil }
	return func() { parsed = whole }
}
