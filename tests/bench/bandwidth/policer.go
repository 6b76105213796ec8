//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/shape"
)

// instruction is one of the BPF machine (struct bpf_insn).
type instruction struct {
	op   uint8
	regs uint8 // destination, and source in the upper half
	off  int16
	imm  int32
}

// loadPolicer loads a token bucket as a BPF classifier: what is over the rate
// is dropped. It keeps one number, the time at which all that has passed would
// have passed at the rate: a frame moves it on by what it takes, and is dropped
// when that time has not come yet. It may lag behind by the burst, no more.
func loadPolicer(l shape.Limit) (int, error) {
	m, err := bpf(unix.BPF_MAP_CREATE, []uint32{unix.BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0, 0})
	if err != nil {
		return -1, fmt.Errorf("make map: %w", err)
	}
	defer unix.Close(m)
	perByte := uint64(math.Round(8e9 / float64(l.Rate) * 65536)) // ns, in units of 2^-16
	depth := uint64(float64(l.Burst) / float64(l.Rate) * 1e9)    // ns
	wide := func(reg uint8, v uint64) []instruction {
		return []instruction{{0x18, reg, 0, int32(uint32(v))}, {0, 0, 0, int32(uint32(v >> 32))}}
	}
	p := []instruction{
		{0xbf, 6 | 1<<4, 0, 0},        // r6 = context
		{0x61, 7 | 6<<4, 0, 0},        // r7 = length
		{0x85, 0, 0, 5},               // r0 = ktime
		{0xbf, 8 | 0<<4, 0, 0},        // r8 = now
		{0x62, 10, -4, 0},             // key = 0
		{0xbf, 2 | 10<<4, 0, 0},       // r2 = stack
		{0x07, 2, 0, -4},              // r2 -= 4
		{0x18, 1 | 1<<4, 0, int32(m)}, // r1 = map
		{0, 0, 0, 0},
		{0x85, 0, 0, 1},        // lookup
		{0x15, 0, 15, 0},       // if !r0 accept
		{0x79, 1, 0, 0},        // r1 = *r0
		{0xbf, 2 | 8<<4, 0, 0}, // r2 = now
	}
	p = append(p, wide(3, depth)...)
	p = append(p,
		instruction{0x1f, 2 | 3<<4, 0, 0}, // r2 -= depth
		instruction{0x3d, 1 | 2<<4, 1, 0}, // if r1 >= r2 skip
		instruction{0xbf, 1 | 2<<4, 0, 0}, // r1 = r2
		instruction{0x2d, 1 | 8<<4, 8, 0}, // if r1 > now drop
	)
	p = append(p, wide(3, perByte)...)
	p = append(p,
		instruction{0x2f, 7 | 3<<4, 0, 0}, // r7 *= perByte
		instruction{0x77, 7, 0, 16},       // r7 >>= 16
		instruction{0x0f, 1 | 7<<4, 0, 0}, // r1 += r7
		instruction{0x7b, 0 | 1<<4, 0, 0}, // *r0 = r1
		instruction{0xb7, 0, 0, -1},       // accept: next filter
		instruction{0x95, 0, 0, 0},
		instruction{0xb7, 0, 0, 2}, // drop
		instruction{0x95, 0, 0, 0},
	)
	licence := append([]byte("GPL"), 0)
	attr := make([]byte, 128)
	binary.NativeEndian.PutUint32(attr[0:], unix.BPF_PROG_TYPE_SCHED_CLS)
	binary.NativeEndian.PutUint32(attr[4:], uint32(len(p)))
	binary.NativeEndian.PutUint64(attr[8:], uint64(uintptr(unsafe.Pointer(&p[0]))))
	binary.NativeEndian.PutUint64(attr[16:], uint64(uintptr(unsafe.Pointer(&licence[0]))))
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)))
	runtime.KeepAlive(p)
	runtime.KeepAlive(licence)
	if errno != 0 {
		return -1, fmt.Errorf("load policer: %w", errno)
	}
	return int(fd), nil
}

func bpf(command uintptr, words []uint32) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&words[0])), uintptr(4*len(words)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
