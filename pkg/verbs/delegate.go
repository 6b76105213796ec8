package verbs

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/result"
)

// ipam is the IPAM plugin of one call. Each of its errors carries the plugin's
// name.
type ipam struct {
	plan.Delegate
	call skel.CmdArgs
}

func (c *call) delegate(d *plan.Delegate) *ipam {
	if d == nil {
		return nil
	}
	return &ipam{Delegate: *d, call: *c.CmdArgs}
}

// of is the same plugin, called for another attachment, of which no more is
// known than its name.
func (d *ipam) of(a attachment.Attachment) *ipam {
	other := *d
	other.Args = ""
	other.call.ContainerID, other.call.IfName, other.call.Netns = a.ContainerID, a.IfName, ""
	return &other
}

func (d *ipam) add(ctx context.Context) (*types100.Result, error) {
	path, err := d.find()
	if err != nil {
		return nil, err
	}
	r, err := invoke.ExecPluginWithResult(ctx, path, d.call.StdinData, d.env("ADD"), d.exec())
	if err != nil {
		return nil, d.failed("ADD", err)
	}
	parsed, err := result.Parse(r)
	if err != nil {
		return nil, d.failed("ADD", err)
	}
	return parsed, nil
}

func (d *ipam) check(ctx context.Context) error { return d.run(ctx, "CHECK") }
func (d *ipam) del(ctx context.Context) error   { return d.run(ctx, "DEL") }
func (d *ipam) gc(ctx context.Context) error    { return d.optional(d.run(ctx, "GC")) }

// status passes the plugin's own 50 and 51 on; whatever else is wrong with it,
// an ADD would fail.
func (d *ipam) status(ctx context.Context) error {
	err := d.optional(d.run(ctx, "STATUS"))
	if err == nil {
		return nil
	}
	if e := cnierr.Find(err, cnierr.NotAvailable, ""); e.Code == cnierr.Limited {
		return err
	}
	return unavailable(err)
}

// optional forgives a plugin that does not know a verb of version 1.1.0.
func (d *ipam) optional(err error) error {
	var e *types.Error
	if errors.As(err, &e) && e.Code == types.ErrInvalidEnvironmentVariables {
		return nil
	}
	return err
}

func (d *ipam) run(ctx context.Context, verb string) error {
	path, err := d.find()
	if err != nil {
		return err
	}
	if err := invoke.ExecPluginWithoutResult(ctx, path, d.call.StdinData, d.env(verb), d.exec()); err != nil {
		return d.failed(verb, err)
	}
	return nil
}

func (d *ipam) find() (string, error) {
	path, err := invoke.FindInPath(d.Type, filepath.SplitList(d.call.Path))
	if err != nil {
		return "", cnierr.New(cnierr.Config,
			"install the IPAM plugin into a folder of CNI_PATH (the containernetworking/plugins package brings host-local and static), or correct \"type\" in \"ipam\"",
			"find IPAM plugin %q: %w", d.Type, err)
	}
	return path, nil
}

func (d *ipam) env(verb string) invoke.CNIArgs {
	return &invoke.Args{
		Command: verb, ContainerID: d.call.ContainerID, NetNS: d.call.Netns, PluginArgsStr: d.Args,
		IfName: d.call.IfName, Path: d.call.Path,
	}
}

func (d *ipam) exec() invoke.Exec {
	return &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}, PluginDecoder: version.PluginDecoder{}}
}

// failed makes the plugin's error ours. Its code stays, if it is one of the
// specification; a plugin that only says that it failed may work later.
func (d *ipam) failed(verb string, err error) error {
	details := "the IPAM plugin said this: check its configuration in \"ipam\", that addresses are left in its ranges, and that its data directory can be written; if it speaks of an address that this attachment has already (after a reboot, or links removed by hand), DEL the attachment, then ADD it again"
	code, said := cnierr.Decoding, err.Error()
	var e *types.Error
	if errors.As(err, &e) {
		code, said = cnierr.TryAgain, e.Msg
		if e.Code != 0 && e.Code != types.ErrInternal {
			code = cnierr.Code(e.Code)
		}
		if e.Details != "" {
			details = e.Details + "; " + details
		}
	} else {
		details = "the IPAM plugin printed something that is no CNI result: mend it, or use another one"
	}
	ours := cnierr.New(code, details, "IPAM plugin %q %s: %s", d.Type, verb, said)
	ours.Err = err
	return ours
}
