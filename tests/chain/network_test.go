package chain

import (
	"context"
	"encoding/json"
	"maps"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// conf is a JSON object.
type conf map[string]any

// with is the object with more keys; a nil value takes one away.
func (c conf) with(more conf) conf {
	all := maps.Clone(c)
	for key, value := range more {
		if all[key] = value; value == nil {
			delete(all, key)
		}
	}
	return all
}

// plugin is the name of the plugin that the object configures.
func (c conf) plugin() string {
	name, _ := c["type"].(string)
	return name
}

// tap and gateway are the chain that most tests use.
var (
	tap     = conf{"type": "microvm-tap"}
	gateway = conf{
		"type": "microvm-bridge", "bridge": "br0", "isGateway": true,
		"ipam": conf{"type": "host-local", "ranges": ranges("10.1.0.0/16")},
	}
	// unguarded is for guests that send what is not theirs.
	unguarded = conf{"guard": conf{"mode": "off"}}
	// plain is a bridge without addresses.
	plain = conf{"type": "microvm-bridge", "bridge": "br0"}
)

// ranges is one range of host-local for each subnet.
func ranges(subnets ...string) [][]conf {
	var sets [][]conf
	for _, s := range subnets {
		sets = append(sets, []conf{{"subnet": s}})
	}
	return sets
}

// network is a conflist on a host, driven by libcni.
type network struct {
	h       *host
	name    string
	version string
	plugins []conf
}

const newest = "1.1.0"

func (h *host) network(name, version string, plugins ...conf) *network {
	return &network{h: h, name: name, version: version, plugins: plugins}
}

// pair is a network with the usual chain, its bridge plugin configured further.
func (h *host) pair(more conf) *network {
	return h.network("lab", newest, tap, gateway.with(more))
}

func (n *network) conflist() []byte {
	b, err := json.Marshal(conf{"cniVersion": n.version, "name": n.name, "plugins": n.plugins})
	if err != nil {
		panic(err)
	}
	return b
}

// vm is a guest NIC, as a runtime names it.
type vm struct {
	id, ifname, netns string
	args              string // CNI_ARGS
	capabilities      map[string]any
}

// vm is the first NIC of a VM on the host.
func (h *host) vm(id string) vm { return vm{id: id, ifname: "eth0", netns: h.guests} }

func (v vm) runtime() *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: v.id, IfName: v.ifname, NetNS: v.netns, CapabilityArgs: v.capabilities}
	for pair := range strings.SplitSeq(v.args, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			rt.Args = append(rt.Args, [2]string{key, value})
		}
	}
	return rt
}

// cniPath is where a host has its plugins.
func cniPath() []string { return []string{pluginDir, bin} }

// call drives libcni on the host.
func (n *network) call(f func(*libcni.CNIConfig, *libcni.NetworkConfigList) error) error {
	n.h.t.Helper()
	list, err := libcni.ConfListFromBytes(n.conflist())
	if err != nil {
		n.h.t.Fatalf("conflist: %v", err)
	}
	return n.h.do(func() error { return f(libcni.NewCNIConfigWithCacheDir(cniPath(), cniDir, nil), list) })
}

func (n *network) tryAdd(v vm) (r types.Result, err error) {
	n.h.t.Helper()
	err = n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		r, err = cni.AddNetworkList(context.Background(), list, v.runtime())
		return err
	})
	return r, err
}

// add attaches the VM, which must work.
func (n *network) add(v vm) *types100.Result {
	n.h.t.Helper()
	raw, err := n.tryAdd(v)
	if err != nil {
		n.h.t.Fatalf("ADD %s: %v", v.id, err)
	}
	r, err := types100.NewResultFromResult(raw)
	if err != nil {
		n.h.t.Fatalf("ADD %s: %v", v.id, err)
	}
	return r
}

func (n *network) check(v vm) error {
	n.h.t.Helper()
	return n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.CheckNetworkList(context.Background(), list, v.runtime())
	})
}

// repair is CHECK that puts right what it finds amiss.
func (n *network) repair(v vm) error {
	v.args = strings.Trim(v.args+";REPAIR=1", ";")
	return n.check(v)
}

func (n *network) del(v vm) error {
	n.h.t.Helper()
	return n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.DelNetworkList(context.Background(), list, v.runtime())
	})
}

// remove detaches the VM, which must work.
func (n *network) remove(v vm) {
	n.h.t.Helper()
	if err := n.del(v); err != nil {
		n.h.t.Errorf("DEL %s: %v", v.id, err)
	}
}

// holds fails the test unless CHECK is green.
func (n *network) holds(v vm) {
	n.h.t.Helper()
	if err := n.check(v); err != nil {
		n.h.t.Errorf("CHECK %s: %v", v.id, err)
	}
}

// gc removes all attachments but the valid ones.
func (n *network) gc(valid ...vm) error {
	n.h.t.Helper()
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, v := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: v.id, IfName: v.ifname})
	}
	return n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.GCNetworkList(context.Background(), list, args)
	})
}

func (n *network) status() error {
	n.h.t.Helper()
	return n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.GetStatusNetworkList(context.Background(), list)
	})
}

// forget removes what libcni remembers of the network, as after a crash.
func (n *network) forget() {
	n.h.t.Helper()
	n.h.sh("rm " + cniDir + "/results/" + n.name + "-*")
}

// tapOf is the name of the VM's tap in a result.
func (v vm) tapOf(r *types100.Result) string {
	for _, in := range r.Interfaces {
		if in.Sandbox == v.id {
			return in.Name
		}
	}
	return ""
}
