package config

import (
	"encoding/json"
	"net"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// capabilities reads "capabilities", "runtimeConfig" and "args": what the
// runtime adds to the configuration. Keys in there that are not ours are
// somebody else's, except for a bandwidth limit: a guest that is believed to be
// limited, and is not, is worse than an error.
type capabilities struct {
	mac    string   // runtimeConfig.mac
	argMAC string   // args.cni.mac
	ips    []string // runtimeConfig.ips
	argIPs []string // args.cni.ips
	ranges json.RawMessage
}

func (r *reader) capabilities(ips bool) capabilities {
	asked := r.object("capabilities")
	config := r.object("runtimeConfig")
	args := r.object("args")
	cni := args.object("cni")
	c := capabilities{mac: config.text("mac"), argMAC: cni.text("mac"), ranges: config.vals["ipRanges"]}
	asked.flag("mac")
	if ips {
		asked.flag("ips")
		c.ips = config.texts("ips")
		c.argIPs = cni.texts("ips")
		config.fail(checkAddrs("runtimeConfig.ips", c.ips))
		cni.fail(checkAddrs("args.cni.ips", c.argIPs))
	}
	if limit, ok := config.vals["bandwidth"]; ok && !isOff(limit) {
		config.fail(cnierr.New(cnierr.UnsupportedField,
			"remove the bandwidth capability, or the limit from the runtime's request: this version does not limit bandwidth",
			"runtimeConfig.bandwidth with value %s is not supported yet", show(limit)))
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
