package tcbpf

import (
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
)

// attach types of bpf(2) since Linux 6.6, whose programs run before all filters
// (BPF_TCX_INGRESS and BPF_TCX_EGRESS of bpf.h).
const (
	tcxIngress = 46
	tcxEgress  = 47
)

func tcx(h tc.Hook) uint32 {
	if h == tc.Egress {
		return tcxEgress
	}
	return tcxIngress
}

// maxPlaces is more than there can be at one tcx hook (BPF_MPROG_MAX).
const maxPlaces = 64

// errNoTCX says that the kernel knows no tcx: before 6.6, or without CONFIG_NET_XGRESS.
var errNoTCX = errors.New("this kernel has no tcx")

// queryTCX returns the programs at the hook, in the order in which they run; none
// for a device that is gone.
func (f Filter) queryTCX() ([]uint32, error) {
	ids := new([maxPlaces]uint32)
	q := progQuery{target: uint32(f.Link), kind: tcx(f.Hook), flags: [2]uint32{}, ids: ids, count: [2]uint32{maxPlaces}, rest: [4]uint64{}}
	_, err := bpf(unix.BPF_PROG_QUERY, &q)
	switch {
	case errors.Is(err, unix.EINVAL):
		return nil, errNoTCX
	case errors.Is(err, unix.ENODEV):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for programs at tcx of link %d: %w", f.Link, err)
	}
	return ids[:min(q.count[0], maxPlaces)], nil
}

// findTCX returns our program at the hook, which the caller closes, and the first
// one that runs before it; a program without an ID and -1 if there is none of ours.
func (f Filter) findTCX() (FD, Program, error) {
	var p Program
	ids, err := f.queryTCX()
	if err != nil {
		return -1, Program{}, err
	}
	for _, id := range ids {
		var fd FD
		var name string
		var tag []byte
		fd, err = ProgramByID(id)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return -1, Program{}, err
		}
		name, tag, err = fd.identity()
		if err == nil && name == f.Program {
			p.ID, p.Tag = id, hex.EncodeToString(tag)
			return fd, p, nil
		}
		if err = errors.Join(err, fd.Close()); err != nil {
			return -1, Program{}, err
		}
		if p.Before == "" {
			p.Before = beforeTCX(id)
		}
	}
	return -1, p, nil
}

func beforeTCX(id uint32) string { return fmt.Sprintf("program %d at tcx", id) }

// attachTCX makes p the program at the hook, in the place of ours or after all others.
func (f Filter) attachTCX(p Loaded) error {
	there, _, err := f.findTCX()
	if err != nil {
		return err
	}
	a := progAttach{target: uint32(f.Link), program: uint32(p.FD()), kind: tcx(f.Hook), flags: 0, replace: 0, revision: 0}
	if there >= 0 {
		a.flags, a.replace = unix.BPF_F_REPLACE, uint32(there)
	}
	_, err = bpf(unix.BPF_PROG_ATTACH, &a)
	if errors.Is(err, unix.ERANGE) {
		err = cnierr.New(cnierr.Exists, fmt.Sprintf("look at them with `bpftool net show dev DEVICE`: one place is needed for %s", f.Program),
			"%w: there are too many programs at tcx already", err)
	}
	return errors.Join(explain(err, "attach program %s to the %s of link %d", f.Program, f.Hook, f.Link), there.Close())
}

// detachTCX takes ours off the hook.
func (f Filter) detachTCX() error {
	there, _, err := f.findTCX()
	if err != nil || there < 0 {
		return err
	}
	a := progAttach{target: uint32(f.Link), program: uint32(there), kind: tcx(f.Hook), flags: 0, replace: 0, revision: 0}
	_, err = bpf(unix.BPF_PROG_DETACH, &a)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		err = nil // somebody else did
	}
	return errors.Join(explain(err, "detach program %s from the %s of link %d", f.Program, f.Hook, f.Link), there.Close())
}
