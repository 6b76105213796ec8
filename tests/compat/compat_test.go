package compat

import (
	"testing"

	"github.com/firecracker-microvm/firecracker-go-sdk/cni/vmconf"
)

func TestX(t *testing.T) { _ = vmconf.StaticNetworkConf{} }
