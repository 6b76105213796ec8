// Package config reads what a runtime hands to a plugin: the network
// configuration on stdin, CNI_ARGS, and the names in the environment.
//
// It parses, fills in defaults and validates, and touches neither the kernel
// nor a file. Every error it returns is a *cnierr.Error. ParseTap and
// ParseBridge are strict: whatever they do not know, they refuse.
// TapForRemoval and BridgeForRemoval take what they can use and leave the rest,
// because a configuration that ADD would refuse must not keep DEL from cleaning
// up.
package config

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Limits of the devices, in bytes and packets.
const (
	minMTU = 68 // ETH_MIN_MTU
	// maxMTU is what a tap takes: 65535 less the Ethernet header
	// (drivers/net/tun.c). A bridge takes more, but no tap could be its port.
	maxMTU     = 65521
	minIPv6MTU = 1280 // RFC 8200, section 5

	maxTxQueueLen = 100000
)

// Runtime is what the runtime said beside the network configuration.
type Runtime struct {
	ContainerID string // CNI_CONTAINERID
	Netns       string // CNI_NETNS
	IfName      string // CNI_IFNAME
	Args        string // CNI_ARGS
}

// Common is what both plugins read.
type Common struct {
	CNIVersion string
	Network    string // "name"
	// PrevResult is the result of the plugin before in the chain, or in CHECK
	// and DEL that of the whole chain, converted from whatever version it had;
	// nil if there is none.
	PrevResult *types100.Result
	// Repair asks CHECK to put right what it finds amiss. Other verbs do not heed it.
	Repair bool
}

// idPattern is how the specification defines a container ID and a network name.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.\-]*$`)

const idAdvice = "begin it with a letter or a digit, and use only letters, digits, '_', '.' and '-' after that"

// versions are the versions of the specification whose results can name
// interfaces, which is what these plugins are for.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// CheckRuntime validates the names that the runtime gave an attachment. ADD,
// CHECK and DEL call it; STATUS and GC have no attachment.
func CheckRuntime(rt Runtime) error {
	if rt.ContainerID == "" {
		return cnierr.New(cnierr.Environment, "set CNI_CONTAINERID to an identifier of the VM",
			"CNI_CONTAINERID is missing")
	}
	if !idPattern.MatchString(rt.ContainerID) {
		return cnierr.New(cnierr.Environment, idAdvice,
			"CNI_CONTAINERID %s is not a container ID", quote(rt.ContainerID))
	}
	if rt.Netns != "" && !strings.HasPrefix(rt.Netns, "/") {
		return cnierr.New(cnierr.Environment, "give the path of the network namespace, from / on: /run/netns/NAME, or /proc/PID/ns/net",
			"CNI_NETNS %s is not an absolute path", quote(rt.Netns))
	}
	return checkName(cnierr.Environment, "CNI_IFNAME", rt.IfName)
}

// open reads what both plugins share, strictly, and refuses keys that are not
// the plugin's. The reader keeps the first error.
func open(stdin []byte, rt Runtime, p, sister plugin) (*reader, Common, Args) {
	obj, err := parseObject(stdin)
	if err != nil {
		return &reader{err: err}, Common{}, Args{}
	}
	r := &reader{vals: obj}
	c := Common{CNIVersion: r.text("cniVersion"), Network: r.text("name")}
	r.text("type")
	r.fail(checkVersion(c.CNIVersion))
	keys, err := keysOf(stdin)
	r.fail(err)
	r.fail(p.check(keys, obj, sister))
	r.fail(checkNetwork(c.Network))
	args, err := ParseArgs(rt.Args)
	r.fail(err)
	c.Repair = args.Repair
	if r.err == nil && r.has("prevResult") {
		c.PrevResult, err = decodeResult(c.CNIVersion, r.vals["prevResult"])
		r.fail(err)
	}
	return r, c, args
}

func checkVersion(version string) error {
	if slices.Contains(versions, version) {
		return nil
	}
	const details = "set cniVersion to one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"
	switch version {
	case "":
		return cnierr.New(cnierr.Version, details, "cniVersion is missing, which means 0.1.0: results of that version cannot name interfaces")
	case "0.1.0", "0.2.0":
		return cnierr.New(cnierr.Version, details, "cniVersion %s: results of that version cannot name interfaces", version)
	}
	return cnierr.New(cnierr.Version, details, "cniVersion %s is not supported", quote(version))
}

func checkNetwork(name string) error {
	if name == "" {
		return cnierr.New(cnierr.Config, `give the network a "name"`, "name is missing")
	}
	if !idPattern.MatchString(name) {
		return cnierr.New(cnierr.Config, idAdvice,
			"name %s is not a network name", quote(name))
	}
	return nil
}

// attachmentsKey is where a runtime lists the attachments that are still valid.
const attachmentsKey = "cni.dev/valid-attachments"

// ErrNoList is in the chain of an error that says that there is no list of
// valid attachments, not even an empty one.
var ErrNoList = errors.New("no list of valid attachments")

// ValidAttachments returns what GC must leave alone on the network. An empty
// list means that nothing is valid any more; a list that is missing, or that
// cannot be understood in full, is an error, so that nothing is removed by
// mistake.
func ValidAttachments(stdin []byte, network string) ([]attachment.Attachment, error) {
	obj, err := parseObject(stdin)
	if err != nil {
		return nil, err
	}
	if _, err = keysOf(stdin); err != nil {
		return nil, err
	}
	if _, ok := obj[attachmentsKey]; !ok {
		e := cnierr.New(cnierr.Config,
			"nothing was removed: the runtime must send the list of valid attachments, [] if there are none",
			"%s is missing", attachmentsKey)
		e.Err = ErrNoList
		return nil, e
	}
	r := &reader{vals: obj}
	var valid []attachment.Attachment
	for _, item := range r.objects(attachmentsKey) {
		a := attachment.Attachment{Network: network, ContainerID: item.text("containerID"), IfName: item.text("ifname")}
		r.fail(item.err)
		if r.err == nil && (a.ContainerID == "" || a.IfName == "") {
			r.fail(cnierr.New(cnierr.Config,
				"nothing was removed: the runtime must send containerID and ifname of each attachment",
				"%s: containerID or ifname is missing", item.path))
		}
		valid = append(valid, a)
	}
	if r.err != nil {
		return nil, r.err
	}
	return valid, nil
}
