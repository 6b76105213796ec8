// Kernels runs test packages as root on other kernels than the machine's own:
// it boots each in QEMU, as a host on which the plugins are installed.
//
//	kernels [-suites LIST] [-run PATTERN] [-skip PATTERN] [-timeout D] KERNEL...
//
// KERNEL is a name in .cache/kernels, where scripts/prepare puts them. Each
// package in LIST, a folder or a pattern such as pkg/kernel/..., is compiled,
// started in its own folder, and reported as `go test -json` would, as package
// KERNEL/pkg/kernel; lines that are not JSON follow: a table of the results, and
// one of what the kernels can do. It exits with 1 when a kernel could not be
// tested; a test that fails is for the reader of the report.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}
