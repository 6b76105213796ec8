package vmconf

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// InexpressibleError says that a format cannot hold what it would have to.
type InexpressibleError struct {
	Format string // "ip=", "cloud-init" ...
	Reason string
}

func (e *InexpressibleError) Error() string { return fmt.Sprintf("write %s: %s", e.Format, e.Reason) }

// QEMU are the choices that a result does not make. The zero value is one NIC
// for a machine with a PCI bus.
type QEMU struct {
	ID     string // of the netdev, for VMs with several NICs; default "net0"
	Device string // default "virtio-net-pci"; "virtio-net-device" for the machine type microvm
	Queues int    // pairs; more than one needs a tap made with "multiQueue": true
	Vhost  bool   // have the kernel move the packets; needs access to /dev/vhost-net
}

// QEMU returns the arguments for qemu-system-*: a -netdev and a -device. They go
// to exec(2) as they are, not through a shell. QEMU opens the tap as its owner,
// without any capability, in NIC.Netns.
func (n *NIC) QEMU(o QEMU) ([]string, error) {
	if o.ID == "" {
		o.ID = "net0"
	}
	if o.Device == "" {
		o.Device = "virtio-net-pci"
	}
	if o.Queues < 0 {
		return nil, &InexpressibleError{Format: "QEMU arguments", Reason: fmt.Sprintf("%d queues make no sense", o.Queues)}
	}
	netdev := "tap,id=" + commas(o.ID) + ",ifname=" + commas(n.Tap) + ",script=no,downscript=no"
	device := commas(o.Device) + ",netdev=" + commas(o.ID) + ",mac=" + n.MAC.String()
	if n.MTU > 0 {
		device += ",host_mtu=" + strconv.Itoa(n.MTU)
	}
	if o.Queues > 1 {
		netdev += ",queues=" + strconv.Itoa(o.Queues)
		device += ",mq=on"
		if strings.HasSuffix(o.Device, "-pci") {
			device += ",vectors=" + strconv.Itoa(2*o.Queues+2) // one for each queue, one for changes, one for control
		}
	}
	if o.Vhost {
		netdev += ",vhost=on"
	}
	return []string{"-netdev", netdev, "-device", device}, nil
}

// commas writes a value for one of QEMU's options.
func commas(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// Firecracker is the body of PUT /network-interfaces/{iface_id}.
type Firecracker struct {
	IfaceID     string `json:"iface_id"`
	GuestMAC    string `json:"guest_mac"`
	HostDevName string `json:"host_dev_name"`
}

// Firecracker returns the path and the body of the request that gives a
// Firecracker in NIC.Netns its NIC. The ID may hold letters, digits and
// underscores; "" means CNI_IFNAME.
func (n *NIC) Firecracker(id string) (path string, body []byte, err error) {
	if id == "" {
		id = n.Attachment.IfName
	}
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return r != '_' && !letterOrDigit(r) }) {
		return "", nil, &InexpressibleError{Format: "Firecracker interface", Reason: fmt.Sprintf("the ID %q is not made of letters, digits and underscores", id)}
	}
	body, err = json.Marshal(Firecracker{IfaceID: id, GuestMAC: n.MAC.String(), HostDevName: n.Tap})
	return "/network-interfaces/" + id, body, err
}

func letterOrDigit(r rune) bool {
	return '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
}

// CloudHypervisor returns the value of cloud-hypervisor's --net. Several pairs of
// queues need a tap made with "multiQueue": true. The MTU is not in it: Cloud
// Hypervisor reads the tap's, and would set one that it is given, for which an
// unprivileged one lacks the capability even if it is the same.
func (n *NIC) CloudHypervisor(queuePairs int) (string, error) {
	if strings.ContainsAny(n.Tap, `,="[]`) {
		return "", &InexpressibleError{Format: "--net", Reason: fmt.Sprintf("the tap's name %q has a character that separates options", n.Tap)}
	}
	net := "tap=" + n.Tap + ",mac=" + n.MAC.String()
	if queuePairs > 1 {
		net += ",num_queues=" + strconv.Itoa(2*queuePairs)
	}
	return net, nil
}
