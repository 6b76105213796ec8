package compat

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	firecracker "github.com/firecracker-microvm/firecracker-go-sdk/cni/vmconf"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

const conflist = `{"cniVersion": "VERSION", "name": "lab", "plugins": [
	{"type": "microvm-tap", "placement": "PLACEMENT"},
	{"type": "microvm-bridge", "bridge": "br0", "isDefaultGateway": true,
		"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]]}, "dns": {"nameservers": ["10.1.0.1"]}}]}`

// The plugins themselves, in the sequence of firecracker-go-sdk: DEL, ADD, parse, DEL.
func TestSequence(t *testing.T) {
	bin := plugins(t)
	for _, c := range []struct{ version, placement, theirs string }{
		{"0.4.0", "host", "expected to find 1 IP"},
		{"1.0.0", "host", "expected to find 1 IP"},
		{"0.4.0", "netns", ""},
		{"1.0.0", "netns", ""},
	} {
		t.Run(c.version+" "+c.placement, func(t *testing.T) {
			h := sandbox.NewHost(t, sandbox.Parallel)
			netns := h.NewNetns("vm1")
			h.Do(func() {
				list, err := libcni.ConfListFromBytes([]byte(strings.NewReplacer("VERSION", c.version, "PLACEMENT", c.placement).Replace(conflist)))
				if err != nil {
					t.Fatal(err)
				}
				cni := libcni.NewCNIConfigWithCacheDir([]string{bin}, "/var/lib/cni/vm1", nil)
				rt := &libcni.RuntimeConf{ContainerID: "vm1", NetNS: netns, IfName: "eth0", Args: [][2]string{
					{"TC_REDIRECT_TAP_UID", "61000"}, {"TC_REDIRECT_TAP_GID", "61000"}, {"IgnoreUnknown", "1"},
				}}
				ctx := context.Background()
				if err := cni.DelNetworkList(ctx, list, rt); err != nil {
					t.Fatalf("DEL before ADD: %v", err)
				}
				r, err := cni.AddNetworkList(ctx, list, rt)
				if err != nil {
					t.Fatalf("ADD: %v", err)
				}
				ours, err := vmconf.Parse(r, vmconf.Attachment{ContainerID: rt.ContainerID, IfName: rt.IfName, Netns: rt.NetNS})
				if err != nil {
					t.Error(err)
				}
				theirs, err := firecracker.StaticNetworkConfFrom(r, rt.ContainerID)
				if (err == nil) != (c.theirs == "") || err != nil && !strings.Contains(err.Error(), c.theirs) {
					t.Errorf("firecracker-go-sdk: %v, want an error about %q", err, c.theirs)
				}
				if theirs != nil && ours != nil {
					same(t, theirs, ours)
				}
				if err := cni.DelNetworkList(ctx, list, rt); err != nil {
					t.Errorf("DEL: %v", err)
				}
			})
		})
	}
}

// plugins builds ours and host-local, as they are in this tree.
func plugins(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-C", "../..", "-buildvcs=false", "-o", dir+"/", "./plugins/...", "github.com/containernetworking/plugins/plugins/ipam/host-local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}
