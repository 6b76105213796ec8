package tcbpf

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// attach types of bpf(2) since Linux 6.6, whose programs run before all filters
// (BPF_TCX_INGRESS and BPF_TCX_EGRESS of bpf.h).
const (
	tcxIngress = 46
	tcxEgress  = 47
)

// tcx returns a program that somebody has at the tcx hook that comes before the
// filters of h; 0 for none, or a kernel without.
func (f Filter) tcx(h Hook) (id uint32, err error) {
	q := progQuery{target: uint32(f.Link), kind: tcxIngress, flags: [2]uint32{}, ids: &id, count: [2]uint32{1}, rest: [4]uint64{}}
	if h == Egress {
		q.kind = tcxEgress
	}
	_, err = bpf(unix.BPF_PROG_QUERY, &q)
	switch {
	case errors.Is(err, unix.EINVAL), // before 6.6, or without CONFIG_NET_XGRESS
		errors.Is(err, unix.ENODEV): // gone, and what is on it too
		return 0, nil
	case err != nil && !errors.Is(err, unix.ENOSPC): // there are more of them
		return 0, fmt.Errorf("look for programs at tcx of link %d: %w", f.Link, err)
	}
	return id, nil
}
