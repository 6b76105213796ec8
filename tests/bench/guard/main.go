//go:build linux

// Command guard measures what the guard costs end to end: how many frames of 64
// bytes one CPU gets from one tap through a bridge to another, and what ADD and DEL
// of microvm-bridge take of a CPU. With guard and without take turns, so that what else the
// machine does hits both. It needs root and makes a network namespace of its own.
//
//	guard PLUGINS     PLUGINS is the folder with the plugins
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: guard PLUGINS")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
}
