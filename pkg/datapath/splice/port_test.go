package splice_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// What is attached to the port, in the host's namespace, sees the guest's frames
// as if the port had received them. Those to it are seen by what comes before the
// shortcut: filters, where that is one, and else programs at tcx that say so.
func TestPortSeesFrames(t *testing.T) {
	r := newRig(t, true)
	drop, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "drop", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // TC_ACT_SHOT
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = drop.Close() }()
	port := index(t, "port")
	filter := func(hook tc.Hook) func() (func() error, error) {
		return func() (func() error, error) {
			f := tcbpf.Filter{Link: port, Hook: hook, Priority: 5, Name: "drop"}
			return f.Detach, f.Attach(drop)
		}
	}
	first := func() (func() error, error) {
		l, err := link.AttachTCX(link.TCXOptions{Interface: port, Program: drop, Attach: ebpf.AttachTCXEgress, Anchor: link.Head()})
		if errors.Is(err, ebpf.ErrNotSupported) {
			return filter(tc.Egress)()
		}
		if err != nil {
			return nil, err
		}
		return l.Close, nil
	}
	for _, d := range []struct {
		name     string
		attach   func() (detach func() error, err error)
		from, to *tap
	}{{"ingress", filter(tc.Ingress), r.guest, r.peer}, {"egress", first, r.peer, r.guest}} {
		detach, err := d.attach()
		if err != nil {
			t.Fatal(err)
		}
		d.from.send(frames[0].bytes(20))
		if got := d.to.receive(100 * time.Millisecond); got != nil {
			t.Errorf("at %s: %x passed", d.name, got)
		}
		if err := detach(); err != nil {
			t.Fatal(err)
		}
		sent := frames[0].bytes(20)
		d.from.send(sent)
		if got := d.to.receive(patience); !bytes.Equal(got, sent) {
			t.Errorf("at %s, detached: received %x, want %x", d.name, got, sent)
		}
	}
}
