//go:build 386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64

package guard

import (
	_ "embed"
	"sync"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

//go:embed program_bpfel.o
var object []byte

// parsed is the program as it was compiled.
var parsed = sync.OnceValues(func() (*tcbpf.Object, error) { return tcbpf.ParseObject(object) })
