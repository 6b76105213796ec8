// Package splice joins a tap in the network namespace of a VMM to a bridge in
// that of the host, for which a veth pair goes from one to the other:
//
//	VMM ns:   tap ingress   -> bpf_redirect_peer(inner) -> port ingress   in the host ns
//	host ns:  port transmit -> inner ingress -> bpf_redirect(tap) -> the VMM's read
//
// Frames of the guest come out at the outer end of the pair, the port, as if it
// had received them, with no queue in between. Frames to the guest cross the
// pair once. In both directions a frame stays the socket buffer that it was:
// what its sender left to do (checksum, segmentation) and its VLAN tag go along.
//
// The programs are attached by package tcbpf, at tcx where Linux has it (6.6) and as
// clsact filters elsewhere, so they live and die with the devices. docs/splice.md
// has the reasons and the figures.
//
// All functions act on the network namespace of the calling thread, which has
// to be the one of the tap. Devices are named by interface index.
package splice

import (
	"errors"
	"fmt"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
)

// Priority is that of the filters at the ingress of both devices, where they are
// filters. There is room before it for those of others, and pkg/shape comes after
// it.
const Priority = 40000

// name is what `tc filter show` calls the filters.
const name = "microvm-cni:splice"

// State tells which half of a splice is in place: attached, unchanged, and with
// the right target. The zero value is no splice.
type State struct {
	ToBridge bool // at the tap
	ToGuest  bool // at the inner end of the veth pair
}

// Whole is the state that Install brings about.
var Whole = State{ToBridge: true, ToGuest: true}

// half is one of the two programs in its place.
type half struct {
	tcbpf.Filter
	code tcbpf.Code // leads to the target, so its tag tells that, too
}

// Helpers of the kernel, by their numbers.
const (
	redirect     = 23
	redirectPeer = 155
)

func halves(tap, inner int) [2]half {
	at := func(link int, program string) tcbpf.Filter {
		return tcbpf.Filter{Link: link, Hook: tc.Ingress, Priority: Priority, Name: name, Program: program}
	}
	return [2]half{
		// Out of the other end of the pair, as if it had been received there, without a
		// queue in between.
		{Filter: at(tap, "mvcni_to_bridge"), code: tcbpf.Redirect(redirectPeer, int32(inner))},
		// To the reader of the tap.
		{Filter: at(inner, toGuest), code: tcbpf.Redirect(redirect, int32(tap))},
	}
}

const toGuest = "mvcni_to_guest"

// Install joins the tap to the inner end of a veth pair, whose other end is in
// another network namespace. What is in place already stays as it is, and what
// joins one of them to another device is replaced. After an error a half of the
// splice may be there: Remove clears it.
func Install(tap, inner int) error {
	for _, h := range halves(tap, inner) {
		if err := h.install(); err != nil {
			return fmt.Errorf("splice link %d to link %d: %w", tap, inner, err)
		}
	}
	return nil
}

// Observe tells what there is of the splice.
func Observe(tap, inner int) (State, error) {
	var s State
	var err error
	for i, part := range []*bool{&s.ToBridge, &s.ToGuest} {
		if *part, err = halves(tap, inner)[i].observe(); err != nil {
			return State{}, err
		}
	}
	return s, nil
}

// Remove takes the programs off both devices, whatever their target is. That
// there are none is no error.
func Remove(tap, inner int) error {
	var all []error
	for _, h := range halves(tap, inner) {
		all = append(all, h.Detach())
	}
	return errors.Join(all...)
}

func (h half) install() error {
	if there, err := h.observe(); err != nil || there {
		return err
	}
	p, err := h.code.Load(h.Program)
	if err != nil {
		return err
	}
	return errors.Join(h.Attach(p), p.Close())
}

// observe tells whether the program is in place.
func (h half) observe() (bool, error) {
	found, err := h.Observe()
	return err == nil && h.code.HasTag(found.Tag), err
}
