package chain

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// skip makes the thread's system call, which it is about to make, none at all.
func skip(tid int) error {
	number := int32(-1)
	return setRegisters(tid, unix.NT_ARM_SYSTEM_CALL, unsafe.Pointer(&number), unsafe.Sizeof(number))
}

// answerWith gives the thread's system call, which is over, its result.
func answerWith(tid int, errno unix.Errno) error {
	var regs unix.PtraceRegsArm64
	if err := unix.PtraceGetRegSetArm64(tid, unix.NT_PRSTATUS, &regs); err != nil {
		return err
	}
	regs.Regs[0] = -uint64(errno)
	return unix.PtraceSetRegSetArm64(tid, unix.NT_PRSTATUS, &regs)
}

func setRegisters(tid int, set uintptr, at unsafe.Pointer, size uintptr) error {
	v := unix.Iovec{Base: (*byte)(at), Len: uint64(size)}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(tid), set, uintptr(unsafe.Pointer(&v)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
