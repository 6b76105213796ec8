package config

import (
	"encoding/json"
	"net"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// capabilities reads "capabilities", "runtimeConfig" and "args": what the
// runtime adds to the configuration, but for bandwidth. Keys in there that are not
// ours are somebody else's.
type capabilities struct {
	mac    string   // runtimeConfig.mac
	argMAC string   // args.cni.mac
	ips    []string // runtimeConfig.ips
	argIPs []string // args.cni.ips
	ranges json.RawMessage
}

func (r *reader) capabilities(bridge bool) capabilities {
	asked := r.object("capabilities")
	config := r.object("runtimeConfig")
	args := r.object("args")
	cni := args.object("cni")
	c := capabilities{mac: config.text("mac"), argMAC: cni.text("mac"), ranges: config.vals["ipRanges"]}
	asked.flag("mac")
	if bridge {
		asked.flag("ips")
		asked.flag("bandwidth")
		c.ips = config.texts("ips")
		c.argIPs = cni.texts("ips")
		config.fail(checkAddrs("runtimeConfig.ips", c.ips))
		cni.fail(checkAddrs("args.cni.ips", c.argIPs))
	}
	if limit, ok := config.vals["bandwidth"]; ok && !bridge && !isOff(limit) {
		config.fail(cnierr.New(cnierr.UnsupportedField, `give the capability to microvm-bridge: "capabilities": {"bandwidth": true}`,
			"runtimeConfig.bandwidth with value %s: microvm-tap limits nothing", show(limit)))
	}
	for _, sub := range []*reader{asked, config, args, cni} {
		r.fail(sub.err)
	}
	return c
}

func checkAddrs(source string, list []string) error {
	for _, s := range list {
		if _, ok := parseAddr(s); !ok {
			return cnierr.New(cnierr.Config, "give an IP address, with /length if the IPAM plugin wants one",
				"%s: %s is not an IP address", source, quote(s))
		}
	}
	return nil
}

// mac is the guest's MAC address by precedence, or nil if nobody gave one. A
// source that is overruled must be in order too.
func (r *reader) mac(c capabilities, args Args, config string) net.HardwareAddr {
	runtime, err := parseMAC(cnierr.Config, "runtimeConfig.mac", c.mac)
	r.fail(err)
	label, err := parseMAC(cnierr.Config, "args.cni.mac", c.argMAC)
	r.fail(err)
	own, err := parseMAC(cnierr.Config, "mac", config)
	r.fail(err)
	for _, mac := range []net.HardwareAddr{runtime, label, args.MAC, own} {
		if mac != nil {
			return mac
		}
	}
	return nil
}
