package tcbpf

import (
	"crypto/sha1" //nolint:gosec // the kernel's, before 6.18
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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

// Load hands the code to the kernel, under a name of at most 15 letters. The caller
// closes it in any case: the kernel keeps what is attached.
func (c Code) Load(name string) (FD, error) { return load(c, name, "Apache-2.0") }
