package chain

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	bpflink "github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// tamper runs a shell script in which two commands stand for what tc cannot do:
//
//	DETACH NETNS DEVICE HOOK    takes the programs off tcx, or the filters where
//	                            the kernel has no tcx
//	FORGE NETNS DEVICE HOOK     puts one in their place that accepts all
//
// NETNS is a name, or - for the host.
func (h *host) tamper(script string) {
	h.t.Helper()
	for command := range strings.SplitSeq(script, ";") {
		words := strings.Fields(command)
		if len(words) != 4 || words[0] != "DETACH" && words[0] != "FORGE" {
			h.sh(command)
			continue
		}
		p := place{netns: words[1], device: words[2], hook: words[3]}
		err := h.detach(p)
		if err == nil && words[0] == "FORGE" {
			err = h.forge(p)
		}
		if err != nil {
			h.t.Fatalf("%s: %v", command, err)
		}
	}
}

// place is where programs are.
type place struct{ netns, device, hook string }

func (p place) tcx() ebpf.AttachType {
	if p.hook == "egress" {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

func (p place) tc() string {
	if p.netns == "-" {
		return "tc"
	}
	return "tc -n " + p.netns
}

// in runs f in the namespace, with the device's index.
func (h *host) in(p place, f func(index int) error) error {
	return h.do(func() error {
		if p.netns != "-" {
			if err := enter("/run/netns/" + p.netns); err != nil {
				return err
			}
		}
		device, err := net.InterfaceByName(p.device)
		if err != nil {
			return err
		}
		return f(device.Index)
	})
}

// programs is how many there are at tcx; none where the kernel has no tcx.
func (h *host) programs(p place) (n int, err error) {
	err = h.in(p, func(index int) error {
		there, asked := bpflink.QueryPrograms(bpflink.QueryOptions{Target: index, Attach: p.tcx()})
		if asked == nil {
			n = len(there.Programs)
		}
		return asked
	})
	if noTCX(err) {
		return 0, nil
	}
	return n, err
}

// noTCX tells whether the error is that of a kernel without tcx.
func noTCX(err error) bool {
	return errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL)
}

func (h *host) detach(p place) error {
	err := h.in(p, func(index int) error {
		there, err := bpflink.QueryPrograms(bpflink.QueryOptions{Target: index, Attach: p.tcx()})
		if err != nil {
			return err
		}
		if len(there.Programs) == 0 {
			return errors.New("there is no program to detach")
		}
		for _, one := range there.Programs {
			program, err := ebpf.NewProgramFromID(one.ID)
			if err != nil {
				return err
			}
			err = bpflink.RawDetachProgram(bpflink.RawDetachProgramOptions{Target: index, Program: program, Attach: p.tcx()})
			if err = errors.Join(err, program.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	if noTCX(err) {
		h.sh(fmt.Sprintf("%s filter del dev %s %s", p.tc(), p.device, p.hook))
		return nil
	}
	return err
}

func (h *host) forge(p place) error {
	err := h.in(p, func(index int) error {
		program, err := acceptAll()
		if err != nil {
			return err
		}
		err = bpflink.RawAttachProgram(bpflink.RawAttachProgramOptions{Target: index, Program: program, Attach: p.tcx()})
		return errors.Join(err, program.Close())
	})
	if noTCX(err) {
		h.sh(fmt.Sprintf("%s filter add dev %s %s protocol all pref 40000 u32 match u32 0 0 flowid 1:1", p.tc(), p.device, p.hook))
		return nil
	}
	return err
}

// acceptAll is a program that ends the search for somebody who minds.
func acceptAll() (*ebpf.Program, error) { return always(ebpf.SchedCLS, 0) }

// always is a program that says the same of every frame.
func always(kind ebpf.ProgramType, verdict int32) (*ebpf.Program, error) {
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11 programs are locked memory
		return nil, err
	}
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
}
