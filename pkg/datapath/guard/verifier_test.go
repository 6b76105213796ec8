package guard

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// TestVerifier says what the kernel has against the program, in either way that it
// has to find out where a checksum goes.
func TestVerifier(t *testing.T) {
	there, err := packets()
	if err != nil {
		t.Fatal(err)
	}
	for _, rules := range []Rules{rulesOf(1), hostRules("gateway", 1)} {
		for _, knows := range []packet{there, {}} {
			verify(t, rules, knows)
		}
	}
}

func verify(t *testing.T, r Rules, knows packet) {
	t.Helper()
	s, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	shared, _ := encode(r.Canonical(), 0)
	value, err := inPackets(shared, knows)
	if err != nil {
		t.Fatal(err)
	}
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
	loaded, err := ebpf.NewProgramWithOptions(p, ebpf.ProgramOptions{LogLevel: ebpf.LogLevelInstruction | ebpf.LogLevelStats, LogSizeStart: 1 << 24})
	var refusal *ebpf.VerifierError
	if errors.As(err, &refusal) {
		t.Fatalf("%v\n%s", err, strings.Join(refusal.Log[max(0, len(refusal.Log)-60):], "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, steps, _ := strings.Cut(loaded.VerifierLog, "\nprocessed ")
	steps, _, _ = strings.Cut(steps, " insns")
	t.Logf("hostAccess %s, packets %+v: %s steps", r.HostAccess, knows, steps)
	if err := loaded.Close(); err != nil {
		t.Error(err)
	}
}
