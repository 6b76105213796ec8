package config

import "github.com/microvm-cni/microvm-cni/pkg/cnierr"

// uplink reads the name of the NIC that the bridge shall have as a port; "" if
// it shall have none.
func (r *reader) uplink(bridge string) string {
	if !r.has("uplink") {
		return ""
	}
	name := r.text("uplink")
	r.fail(checkName(cnierr.Config, "uplink", name))
	if name == bridge {
		r.fail(cnierr.New(cnierr.Config, "give \"uplink\" the name of a NIC of the host (ip link lists them)",
			"uplink: %s is the bridge itself", quote(name)))
	}
	return name
}
