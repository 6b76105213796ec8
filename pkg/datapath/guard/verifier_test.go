package guard

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// TestVerifier says what the kernel has against the program.
func TestVerifier(t *testing.T) {
	s, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	value, _ := encode(hostRules("gateway", 1), 0)
	p := s.Programs["guard"]
	for name, spec := range s.Maps {
		if name == tcbpf.Constants {
			spec.Contents = []ebpf.MapKV{{Key: uint32(0), Value: value}} // and frozen
		}
		var m *ebpf.Map
		if m, err = ebpf.NewMap(spec); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m.Close() }()
		if err = p.Instructions.AssociateMap(name, m); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := ebpf.NewProgramWithOptions(p, ebpf.ProgramOptions{LogLevel: ebpf.LogLevelInstruction, LogSizeStart: 1 << 24})
	var refusal *ebpf.VerifierError
	if errors.As(err, &refusal) {
		t.Fatalf("%v\n%s", err, strings.Join(refusal.Log[max(0, len(refusal.Log)-60):], "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Close(); err != nil {
		t.Error(err)
	}
}
