package plan

import (
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/microvm-cni/microvm-cni/pkg/config"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

func backend(conf *config.Bridge) linkspec.NATBackend {
	if conf.IPTables {
		return linkspec.IPTables
	}
	return linkspec.NFTables
}

// masquerade declares what hides a guest with these addresses; nil for nothing.
// A link-local address goes nowhere, so there is nothing to hide.
func (p *bridgePlan) masquerade(ips []*types100.IPConfig) (*linkspec.Masquerade, error) {
	if !p.conf.IPMasq {
		return nil, nil
	}
	m := &linkspec.Masquerade{Backend: backend(p.conf), Network: p.att.Network}
	if p.conf.IPTables {
		m.ContainerID = p.att.ContainerID
	}
	for _, ip := range ips {
		source, err := prefixOf(ip.Address)
		if err != nil {
			return nil, err
		}
		if !p.conf.IPTables {
			source = source.Masked()
		}
		if !source.Addr().IsLinkLocalUnicast() && !slices.Contains(m.Sources, source) {
			m.Sources = append(m.Sources, source)
		}
	}
	if m.Sources == nil {
		return nil, nil
	}
	return m, nil
}

// removals are what an ADD may have made, whatever its configuration was: a
// look into our own table is cheap. One into iptables is not, so that only a
// configuration that names it leads there.
func removals(conf *config.Bridge, rt config.Runtime) []linkspec.Masquerade {
	all := []linkspec.Masquerade{{Backend: linkspec.NFTables, Network: conf.Network}}
	if conf.IPTables {
		all = append(all, linkspec.Masquerade{Backend: linkspec.IPTables, Network: conf.Network, ContainerID: rt.ContainerID})
	}
	return all
}
