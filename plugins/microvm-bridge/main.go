// Command microvm-bridge is a CNI plugin that puts the tap of a microVM on a
// bridge of the host, and gives its guest addresses.
package main

import (
	"os"

	"github.com/microvm-cni/microvm-cni/pkg/datapath/guard"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/splice"
	"github.com/microvm-cni/microvm-cni/pkg/nat"
	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/shape"
	"github.com/microvm-cni/microvm-cni/pkg/verbs"
)

func main() {
	os.Exit(verbs.Main(verbs.Plugin{
		Name: "microvm-bridge", Plan: plan.Bridge, Removal: plan.BridgeRemoval, Needs: plan.BridgeNeeds,
		NAT: nat.New(), Shaper: shape.Kernel{}, Splicer: splice.Splicer{}, Guards: guard.New(),
	}))
}
