//go:build linux

// Command splice measures ways to connect a tap in a network namespace of its own
// to a bridge: how many frames one CPU gets from one tap through the bridge to
// another. It needs root, makes network namespaces of its own, and leaves nothing.
//
// One thread writes a batch of frames into the sending tap and reads them from
// the receiving one. The ways take turns for a few milliseconds each, so that
// what else the machine does hits all of them, and each ratio is the median of
// the ratios to the baseline in the same round.
package main

import (
	"fmt"
	"os"
)

func main() {
	o, err := parse()
	if err == nil {
		_, err = measure(o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "splice:", err)
		os.Exit(1)
	}
}
