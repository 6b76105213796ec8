//go:build linux

// Command bandwidth measures ways to limit the bandwidth of a guest: what TCP
// gets of a rate, and what other packets wait meanwhile. It needs root, makes
// network namespaces of its own, and leaves nothing.
//
// The rows of the table are interleaved, so that what else the machine does
// hits all of them, and each number is the median of the runs.
package main

import (
	"fmt"
	"os"
)

func main() {
	o, err := parse()
	if err == nil {
		err = measure(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bandwidth:", err)
		os.Exit(1)
	}
}
