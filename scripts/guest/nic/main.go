// Command nic reads a CNI result on stdin and prints what a guest has to know of its network device,
// one KEY VALUE... per line, for a shell to read:
//
//	bridge br0
//	tap mvm1a2b3c4d
//	mac 02:11:22:33:44:55
//	mtu 1500
//	address 10.88.0.2/24
//	gateway 10.88.0.1
//	route 0.0.0.0/0 10.88.0.1
//
// The shell on a fresh machine has nothing that reads JSON; the Go that builds the plugins does.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "nic:", err)
		os.Exit(1)
	}
}
