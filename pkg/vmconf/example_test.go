package vmconf_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
)

// result is what libcni's AddNetworkList returned.
const result = `{
  "cniVersion": "1.1.0",
  "interfaces": [
    { "name": "br0", "mac": "5a:00:00:00:00:01", "mtu": 1500 },
    { "name": "mvt-a55twcvousg", "mac": "fe:d0:ab:c8:71:25", "mtu": 1500 },
    { "name": "mvt-a55twcvousg", "mac": "02:d0:ab:c8:71:25", "mtu": 1500, "sandbox": "vm1" },
    { "name": "eth0", "mac": "02:d0:ab:c8:71:25", "mtu": 1500, "sandbox": "/run/netns/vm1" }
  ],
  "ips": [
    { "interface": 2, "address": "10.88.0.2/16", "gateway": "10.88.0.1" },
    { "interface": 3, "address": "10.88.0.2/16", "gateway": "10.88.0.1" }
  ],
  "routes": [{ "dst": "0.0.0.0/0" }],
  "dns": { "nameservers": ["10.88.0.1"], "domain": "lab.example" }
}`

func parse() *vmconf.NIC {
	r, err := create.CreateFromBytes([]byte(result))
	if err != nil {
		log.Fatal(err)
	}
	nic, err := vmconf.Parse(r, vmconf.Attachment{ContainerID: "vm1", IfName: "eth0", Netns: "/run/netns/vm1"})
	if err != nil {
		log.Fatal(err)
	}
	return nic
}

func Example() {
	nic := parse()
	if nic.MTU == 0 { // a result before version 1.1.0
		var err error
		if nic.MTU, err = vmconf.TapMTU(nic.Tap, nic.Netns); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(nic.Tap, nic.MAC, nic.MTU)
	fmt.Println(nic.Addresses[0].Prefix, nic.Addresses[0].Gateway)
	// Output:
	// mvt-a55twcvousg 02:d0:ab:c8:71:25 1500
	// 10.88.0.2/16 10.88.0.1
}

func ExampleParse_errors() {
	r, err := create.CreateFromBytes([]byte(result))
	if err != nil {
		log.Fatal(err)
	}
	_, err = vmconf.Parse(r, vmconf.Attachment{ContainerID: "vm2"})
	var pairing *vmconf.PairingError
	if errors.As(err, &pairing) && len(pairing.Found) == 0 {
		fmt.Println(err)
	}
	// Output:
	// find guest's NIC: there is no interface that has the container ID vm2 for its sandbox
}

func ExampleNIC_KernelIP() {
	argument, err := parse().KernelIP("eth0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(argument)
	// Output:
	// ip=10.88.0.2::10.88.0.1:255.255.0.0::eth0:off:10.88.0.1
}

func ExampleNIC_QEMU() {
	args, err := parse().QEMU(vmconf.QEMU{Queues: 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, arg := range args {
		fmt.Println(arg)
	}
	// Output:
	// -netdev
	// tap,id=net0,ifname=mvt-a55twcvousg,script=no,downscript=no,queues=2
	// -device
	// virtio-net-pci,netdev=net0,mac=02:d0:ab:c8:71:25,host_mtu=1500,mq=on,vectors=6
}

func ExampleNIC_Firecracker() {
	path, body, err := parse().Firecracker("eth0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("PUT %s\n%s\n", path, body)
	// Output:
	// PUT /network-interfaces/eth0
	// {"iface_id":"eth0","guest_mac":"02:d0:ab:c8:71:25","host_dev_name":"mvt-a55twcvousg"}
}

func ExampleNIC_CloudHypervisor() {
	net, err := parse().CloudHypervisor(1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("--net", net)
	// Output:
	// --net tap=mvt-a55twcvousg,mac=02:d0:ab:c8:71:25
}

func ExampleCloudInit() {
	config, err := vmconf.CloudInit(map[string]*vmconf.NIC{"eth0": parse()})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", config)
	// Output:
	// {
	//   "version": 2,
	//   "ethernets": {
	//     "eth0": {
	//       "match": {
	//         "macaddress": "02:d0:ab:c8:71:25"
	//       },
	//       "set-name": "eth0",
	//       "mtu": 1500,
	//       "addresses": [
	//         "10.88.0.2/16"
	//       ],
	//       "routes": [
	//         {
	//           "to": "0.0.0.0/0",
	//           "via": "10.88.0.1"
	//         }
	//       ],
	//       "nameservers": {
	//         "addresses": [
	//           "10.88.0.1"
	//         ],
	//         "search": [
	//           "lab.example"
	//         ]
	//       }
	//     }
	//   }
	// }
}

func ExampleNIC_Networkd() {
	fmt.Print(parse().Networkd())
	// Output:
	// [Match]
	// MACAddress=02:d0:ab:c8:71:25
	//
	// [Link]
	// MTUBytes=1500
	//
	// [Network]
	// Address=10.88.0.2/16
	// DNS=10.88.0.1
	// Domains=lab.example
	//
	// [Route]
	// Destination=0.0.0.0/0
	// Gateway=10.88.0.1
}
