// Command microvm-tap is a CNI plugin that makes the tap device of a microVM.
package main

import (
	"os"

	"github.com/microvm-cni/microvm-cni/pkg/plan"
	"github.com/microvm-cni/microvm-cni/pkg/verbs"
)

func main() {
	os.Exit(verbs.Main(verbs.Plugin{
		Name: "microvm-tap", Plan: plan.Tap, Removal: plan.TapRemoval, Needs: plan.TapNeeds,
	}))
}
