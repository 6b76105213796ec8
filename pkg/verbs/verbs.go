// Package verbs holds the five verbs of CNI, once for both plugins: each walks
// a plan and lets the engine do the work. It is the only user of the CNI
// skeleton, the only caller of IPAM plugins, and the place where an error turns
// into the one JSON document that a runtime reads.
package verbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/kernel"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
)

// Version is set by the linker.
var Version = "unknown"

// Plugin is what sets one plugin apart from the other.
type Plugin struct {
	Name string
	// Plan parses a configuration strictly, for ADD and CHECK.
	Plan func(stdin []byte, rt config.Runtime, ownNetns bool, host plan.Host) (plan.Plan, error)
	// Removal reads what DEL and GC need, whatever else is wrong with it.
	Removal func(stdin []byte, rt config.Runtime) (plan.Removal, error)
	// Needs parses a configuration strictly, for STATUS.
	Needs func(stdin []byte, host plan.Host) (plan.Needs, error)
	// NAT is nil for a plugin that never masquerades.
	NAT kernel.NAT
	// Splicer is nil for a plugin that never joins a tap in another namespace.
	Splicer kernel.Splicer
	// Shaper is nil for a plugin that never limits bandwidth.
	Shaper kernel.Shaper
	// Guards is nil for a plugin that never joins a port.
	Guards kernel.Guards
}

// Main runs the verb that CNI_COMMAND names and returns the exit status.
func Main(p Plugin) int {
	// A tap on the host is legal when the runtime gives its own namespace. This keeps
	// the skeleton from refusing that, here and in delegates, which inherit it.
	_ = os.Setenv("CNI_NETNS_OVERRIDE", "1")
	// A runtime that is gone is an error of a write, which is rolled back, and not
	// the end of the process. Not ignored, which delegates would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	stdin, err := rewindStdin()
	if err == nil {
		err = p.dispatch()
	}
	if err == nil {
		return 0
	}
	printError(os.Stdout, err, confVersion(stdin))
	return 1
}

func (p Plugin) dispatch() error {
	about := "CNI plugin " + p.Name + " " + Version
	if e := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: p.verb((*call).add), Check: p.verb((*call).check), Del: p.verb((*call).del),
		GC: p.verb((*call).gc), Status: p.verb((*call).status),
	}, version.All, about); e != nil {
		return e
	}
	return nil
}

// call is one run of one verb.
type call struct {
	Plugin
	*skel.CmdArgs
	k *kernel.Kernel
}

// verb makes a handler for the skeleton. A runtime that ends the plugin with
// SIGTERM or SIGINT gets a failed verb that was rolled back.
func (p Plugin) verb(run func(*call, context.Context) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		k, err := kernel.New(kernel.WithNAT(p.NAT), kernel.WithShaper(p.Shaper), kernel.WithSplicer(p.Splicer), kernel.WithGuards(p.Guards))
		if err != nil {
			return carry(err)
		}
		return carry(run(&call{Plugin: p, CmdArgs: args, k: k}, ctx))
	}
}

// runtime is what the runtime said beside the configuration.
func (c *call) runtime() config.Runtime {
	return config.Runtime{ContainerID: c.ContainerID, Netns: c.Netns, IfName: c.IfName, Args: c.Args}
}

// plan makes the plan for ADD and CHECK.
func (c *call) plan() (plan.Plan, error) {
	rt := c.runtime()
	if err := config.CheckRuntime(rt); err != nil {
		return nil, err
	}
	own, err := kernel.SameNetns(rt.Netns)
	if err != nil {
		return nil, netnsError{fmt.Errorf("CNI_NETNS: %w", err)}
	}
	return c.Plan(c.StdinData, rt, own, host{k: c.k})
}

// netnsError is the error that CNI_NETNS leads to no network namespace.
type netnsError struct{ error }

func (e netnsError) Unwrap() error { return e.error }

// host asks the host's user database, and its kernel.
type host struct{ k *kernel.Kernel }

func (host) User(name string) (uint32, error)  { return kernel.LookupUser(name) }
func (host) Group(name string) (uint32, error) { return kernel.LookupGroup(name) }
func (h host) CanShorten() (bool, error)       { return h.k.CanShorten() }

// carry packs an error for the skeleton, which knows only types.Error.
func carry(err error) error {
	if err == nil {
		return nil
	}
	e := cnierr.Find(err, cnierr.Kernel,
		"the kernel refused it: the plugin must run as root (CAP_NET_ADMIN) in the host's network namespace; `dmesg | tail` may tell more")
	return types.NewError(uint(e.Code), e.Msg, e.Details)
}

// rewindStdin reads the configuration and leaves it to the skeleton to read it
// again: errors that the skeleton finds before a verb runs need its version.
func rewindStdin() ([]byte, error) {
	switch os.Getenv("CNI_COMMAND") {
	case "", "VERSION":
		return nil, nil
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, cnierr.New(cnierr.IO, "the runtime must write the network configuration to the plugin's standard input", "read standard input: %w", err)
	}
	stdin = removable(stdin)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, cnierr.New(cnierr.IO, "the plugin may open too few files: raise the runtime's limit", "open pipe: %w", err)
	}
	go func() {
		_, _ = w.Write(stdin)
		_ = w.Close()
	}()
	os.Stdin = r
	return stdin, nil
}

// confVersion is the version in which to print an error: the configuration's,
// if it is one.
func confVersion(stdin []byte) string {
	var conf struct {
		CNIVersion string `json:"cniVersion"`
	}
	if json.Unmarshal(stdin, &conf) == nil && slices.Contains(version.All.SupportedVersions(), conf.CNIVersion) {
		return conf.CNIVersion
	}
	return version.Current()
}

// printError writes the error document. The library's own lacks cniVersion.
func printError(w io.Writer, err error, cniVersion string) {
	var e *types.Error
	if !errors.As(carry(err), &e) {
		return
	}
	doc := struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
		Details    string `json:"details,omitempty"`
	}{cniVersion, e.Code, e.Msg, e.Details}
	var skeleton *types.Error
	if errors.As(err, &skeleton) {
		doc.Code, doc.Msg, doc.Details = skeleton.Code, skeleton.Msg, skeleton.Details
		if remedy, ok := remedies[cnierr.Code(skeleton.Code)]; ok && !hasRemedy(skeleton) {
			if skeleton.Details != "" {
				doc.Msg += ": " + skeleton.Details
			}
			doc.Details = remedy
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	_ = enc.Encode(doc)
}

// hasRemedy tells whether the error came from a verb of ours, whose details say
// what to do, or from the skeleton, whose details, if any, do not.
func hasRemedy(e *types.Error) bool {
	return e.Details != "" && e.Msg != "incompatible CNI versions"
}

// removable is the configuration with a version that the skeleton takes, where DEL
// is to go by one that nobody knows: what ADD refuses must not keep anybody from
// cleaning up.
func removable(stdin []byte) []byte {
	var conf map[string]json.RawMessage
	if os.Getenv("CNI_COMMAND") != "DEL" || json.Unmarshal(stdin, &conf) != nil || conf["cniVersion"] == nil {
		return stdin
	}
	var known string
	if json.Unmarshal(conf["cniVersion"], &known) == nil && slices.Contains(version.All.SupportedVersions(), known) {
		return stdin
	}
	conf["cniVersion"], _ = json.Marshal(version.Current())
	delete(conf, "prevResult") // of that version
	again, err := json.Marshal(conf)
	if err != nil {
		return stdin
	}
	return again
}

// remedies say what to do about the errors that the skeleton finds itself.
var remedies = map[cnierr.Code]string{
	cnierr.Version:     "set \"cniVersion\" in the conflist to a version from 0.3.0 to 1.1.0; CHECK needs 0.4.0 or later, STATUS and GC need 1.1.0",
	cnierr.Environment: "the runtime sets CNI_COMMAND (ADD, DEL, CHECK, GC, STATUS or VERSION), CNI_CONTAINERID (letters, digits, - _ .), CNI_NETNS, CNI_IFNAME (at most 15 bytes) and CNI_PATH; to call the plugins by hand use cnitool",
	cnierr.IO:          "the runtime must write the network configuration to the plugin's standard input",
	cnierr.Decoding:    "the network configuration on standard input must be one JSON object: check the conflist with a JSON tool such as jq",
	cnierr.Config:      "give the conflist a \"name\" of letters, digits, - _ and . that begins with a letter or digit",
}
