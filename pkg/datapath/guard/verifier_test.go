package guard

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// TestVerifier says what the kernel has against the program.
func TestVerifier(t *testing.T) {
	s, err := loadProgram()
	if err != nil {
		t.Fatal(err)
	}
	value, err := encode(hostRules("gateway", 1))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Programs[programProgGuard]
	for _, name := range []string{rodata, dropsMap, lastMap, stormMap} {
		var m *ebpf.Map
		if m, err = newMap(s.Maps[name], value); err != nil {
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
