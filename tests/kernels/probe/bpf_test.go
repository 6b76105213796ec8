package probe

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// instruction is one of eBPF.
type instruction struct {
	code byte
	regs byte // source, destination
	off  int16
	imm  int32
}

const (
	movImmediate = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	movRegister  = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
	addImmediate = unix.BPF_ALU64 | unix.BPF_ADD | unix.BPF_K
	call         = unix.BPF_JMP | unix.BPF_CALL
	exit         = unix.BPF_JMP | unix.BPF_EXIT
)

// load returns the descriptor of a classifier.
func load(program ...instruction) (int, error) {
	license := [...]byte{'G', 'P', 'L', 0}
	attr := struct {
		kind, count   uint32
		insns, licens uint64
		rest          [128 - 24]byte
	}{
		kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(program)),
		insns: uint64(uintptr(unsafe.Pointer(&program[0]))), licens: uint64(uintptr(unsafe.Pointer(&license))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), 48)
	runtime.KeepAlive(program)
	runtime.KeepAlive(&license)
	if errno != 0 {
		return -1, fmt.Errorf("load program: %w", errno)
	}
	return int(fd), nil
}

// loadBPF loads a program that drops.
func loadBPF() error {
	fd, err := load(instruction{code: movImmediate, imm: 2}, instruction{code: exit})
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// readKernel loads a program that reads eight bytes of the kernel's memory.
func readKernel() error {
	const (
		frame  = 10 // the register that points to the end of the stack
		id     = 113
		length = 8
	)
	fd, err := load(instruction{code: movRegister, regs: frame<<4 | 1}, instruction{code: addImmediate, regs: 1, imm: -length},
		instruction{code: movImmediate, regs: 2, imm: length}, instruction{code: movImmediate, regs: 3},
		instruction{code: call, imm: id}, instruction{code: exit})
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// loadHelper loads a program that calls a function of the kernel with (1, 0).
func loadHelper(id int32) error {
	fd, err := load(instruction{code: movImmediate, regs: 1, imm: 1}, instruction{code: movImmediate, regs: 2},
		instruction{code: call, imm: id}, instruction{code: exit})
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// attachTCX attaches a program to tap0 without a qdisc.
func attachTCX() error {
	tap, err := net.InterfaceByName("tap0")
	if err != nil {
		return err
	}
	program, err := load(instruction{code: movImmediate, imm: -1}, instruction{code: exit})
	if err != nil {
		return err
	}
	defer unix.Close(program)
	const ingress = 46 // BPF_TCX_INGRESS
	attr := struct {
		program, target, attach, flags uint32
		rest                           [48]byte
	}{program: uint32(program), target: uint32(tap.Index), attach: ingress}
	link, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return os.NewSyscallError("create link", errno)
	}
	return unix.Close(int(link))
}
