module github.com/microvm-cni/microvm-cni/tests/compat

go 1.26.8

require github.com/firecracker-microvm/firecracker-go-sdk v1.0.0

require (
	github.com/containernetworking/cni v1.3.1 // indirect
	github.com/containernetworking/plugins v1.9.1 // indirect
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/microvm-cni/microvm-cni => ../..
