package splice_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// What is attached to the port, in the host's namespace, sees the guest's frames
// as if the port had received them, and those to it before any shortcut.
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
	for _, d := range []struct {
		hook     tcbpf.Hook
		from, to *tap
	}{{tcbpf.Ingress, r.guest, r.peer}, {tcbpf.Egress, r.peer, r.guest}} {
		f := tcbpf.Filter{Link: index(t, "port"), Hook: d.hook, Priority: 5, Name: "drop"}
		if err := f.Attach(drop); err != nil {
			t.Fatal(err)
		}
		d.from.send(frames[0].bytes(20))
		if got := d.to.receive(100 * time.Millisecond); got != nil {
			t.Errorf("at %s: %x passed", d.hook, got)
		}
		if err := f.Detach(); err != nil {
			t.Fatal(err)
		}
		sent := frames[0].bytes(20)
		d.from.send(sent)
		if got := d.to.receive(patience); !bytes.Equal(got, sent) {
			t.Errorf("at %s, detached: received %x, want %x", d.hook, got, sent)
		}
	}
}
