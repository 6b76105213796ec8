package tcbpf

import (
	"crypto/sha1" //nolint:gosec // the kernel's, before 6.18
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Code is a program without maps, as the kernel reads it: one instruction of 8
// bytes after the other. To load a few of them takes no library, which would ask
// the kernel what it can do first.
type Code []byte

// Redirect is a program that calls a helper of the kernel with an interface index
// and no flags, and returns what that returns.
func Redirect(helper, link int32) Code {
	var c Code
	c = c.add(movImmediate, 1, link)
	c = c.add(movImmediate, 2, 0)
	c = c.add(call, 0, helper)
	return c.add(exit, 0, 0)
}

// Opcodes (include/uapi/linux/bpf.h).
const (
	movImmediate = 0xb7 // BPF_ALU64 | BPF_MOV | BPF_K
	call         = 0x85 // BPF_JMP | BPF_CALL
	exit         = 0x95 // BPF_JMP | BPF_EXIT
)

// add appends an instruction with a destination register and an immediate value.
func (c Code) add(opcode, register byte, value int32) Code {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 { // the register is the first four bits of the byte
		register <<= 4
	}
	return binary.NativeEndian.AppendUint32(append(c, opcode, register, 0, 0), uint32(value))
}

// HasTag tells whether the kernel's tag is that of the code.
func (c Code) HasTag(tag string) bool {
	old, now := sha1.Sum(c), sha256.Sum256(c) //nolint:gosec // what the kernel takes
	return tag == hex.EncodeToString(old[:8]) || tag == hex.EncodeToString(now[:8])
}

// Handle is code in the kernel, which keeps it while it is attached.
type Handle int

// FD is what Attach wants.
func (h Handle) FD() int { return int(h) }

// Close must be called in any case.
func (h Handle) Close() error { return unix.Close(int(h)) }

// beyond follows a pointer, which takes 8 bytes everywhere.
const beyond = 8 - unsafe.Sizeof(uintptr(0))

// codeLoad is as much of union bpf_attr as BPF_PROG_LOAD needs.
type codeLoad struct {
	kind, count uint32
	code        *byte
	_           [beyond]byte
	license     *byte
	_           [beyond]byte
	_           [6]uint32 // log, kernel version, flags
	name        [16]byte
}

// loadAttempts bounds how often code is loaded that a signal interrupts.
const loadAttempts = 30

// Load hands the code to the kernel, under a name of at most 15 letters.
func (c Code) Load(name string) (Handle, error) {
	license := []byte("Apache-2.0\x00")
	a := codeLoad{kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(c) / 8), code: unsafe.SliceData(c), license: unsafe.SliceData(license)}
	copy(a.name[:15], name)
	for range loadAttempts {
		fd, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
		switch {
		case e == 0:
			return Handle(fd), nil
		case e == unix.EPERM && !unlimited() && lockMemory() == nil, e == unix.EAGAIN, e == unix.EINTR:
			continue
		}
		return -1, refused(e, name)
	}
	return -1, cnierr.New(cnierr.TryAgain, "call the plugin again", "load BPF program %s: %w", name, unix.EAGAIN)
}

// unlimited tells whether the process may lock any memory.
func unlimited() bool {
	var limit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur == unix.RLIM_INFINITY
}
