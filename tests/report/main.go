// Report reads the output of "go test -json" and says what a person wants to
// know of it: the packages as they finish, each failure with its output, each
// skipped test with its reason, the slowest packages, and as the last line
//
//	123 passed, 0 failed, 0 skipped
//
// It exits with 1 when anything failed, was skipped, or did not finish, and when
// nothing was tested. MICROVM_CNI_ALLOW_SKIP=1 tolerates skipped tests.
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	r := newReport(out)
	err := r.read(os.Stdin, out.Flush)
	ok := r.finish(os.Getenv("MICROVM_CNI_ALLOW_SKIP") == "1")
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}
