//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// batch is how many frames are on their way at once: fewer than the queue of a
// tap takes, so that none is lost.
const batch = 32

// patience is how long a frame may take. Only what another CPU brings takes
// longer than the write.
const patience = time.Second

// run sends frames for about that long, and returns how many arrived in a second.
func (p path) run(frame []byte, length time.Duration, clock int32) (float64, error) {
	buf := make([]byte, 1<<17)
	frames := 0
	start := read(clock)
	for read(clock)-start < length {
		for range batch {
			if _, err := unix.Write(p.from, frame); err != nil {
				return 0, os.NewSyscallError("write frame", err)
			}
		}
		// A frame that had to be cut arrives in pieces: the bytes tell.
		for got := 0; got < batch*(len(frame)-vnetHeader); {
			n, err := p.read(buf)
			if err != nil {
				return 0, err
			}
			got += n - vnetHeader
		}
		frames += batch
	}
	return float64(frames) / (read(clock) - start).Seconds(), nil
}

func read(clock int32) time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(clock, &t)
	return time.Duration(t.Nano())
}

func (p path) read(buf []byte) (int, error) {
	n, err := unix.Read(p.to, buf)
	if err == nil {
		return n, nil
	}
	for start := time.Now(); errors.Is(err, unix.EAGAIN); n, err = unix.Read(p.to, buf) {
		if time.Since(start) > patience {
			return 0, errors.New("frames are lost")
		}
	}
	if err != nil {
		return 0, fmt.Errorf("read frame: %w", err)
	}
	return n, nil
}

// pin keeps the calling goroutine on one CPU.
func pin(cpu int) error {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}
