module github.com/microvm-cni/microvm-cni/tests/compat

go 1.26.8

require (
	github.com/containernetworking/cni v1.3.1
	github.com/firecracker-microvm/firecracker-go-sdk v1.0.0
	github.com/microvm-cni/microvm-cni v0.0.0-00010101000000-000000000000
	gopkg.in/yaml.v3 v3.0.1
)

require (
	github.com/containernetworking/plugins v1.9.1 // indirect
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	go.opentelemetry.io/otel v1.29.0 // indirect
	go.opentelemetry.io/otel/trace v1.29.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/microvm-cni/microvm-cni => ../..
