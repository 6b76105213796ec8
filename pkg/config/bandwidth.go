package config

import (
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// Bandwidth is what a guest may use, as seen from it: ingress is what it
// receives. Rates are in bits a second, bursts in bits; 0 is not given.
type Bandwidth struct {
	IngressRate, IngressBurst uint64
	EgressRate, EgressBurst   uint64

	// ShapedSubnets are the only ones to limit, UnshapedSubnets those to leave alone.
	ShapedSubnets, UnshapedSubnets []netip.Prefix
}

var (
	rateKeys   = []string{"ingressRate", "ingressBurst", "egressRate", "egressBurst"}
	subnetKeys = []string{"shapedSubnets", "unshapedSubnets"}
)

// bandwidth reads the keys of the configuration, and those of the runtime. As in
// the upstream plugin one rate or burst in the configuration, 0 even, overrules
// all rates of the runtime. So do the lists of subnets those of the runtime.
func (r *reader) bandwidth() Bandwidth {
	config := r.object("runtimeConfig")
	runtime := config.object("bandwidth")
	runtime.path = "runtimeConfig.bandwidth"
	runtime.known(slices.Concat(rateKeys, subnetKeys))
	asked, subnets := runtime.rates(), runtime.subnetLists()
	if slices.ContainsFunc(rateKeys, r.has) {
		asked = r.rates()
	}
	if slices.ContainsFunc(subnetKeys, r.has) {
		subnets = r.subnetLists()
	}
	r.fail(config.err)
	r.fail(runtime.err)
	asked.ShapedSubnets, asked.UnshapedSubnets = subnets.ShapedSubnets, subnets.UnshapedSubnets
	return asked
}

func (r *reader) rates() Bandwidth {
	bits := func(key string) uint64 { return uint64(r.number(key, "bits", 0, math.MaxInt64)) }
	return Bandwidth{
		IngressRate: bits("ingressRate"), IngressBurst: bits("ingressBurst"),
		EgressRate: bits("egressRate"), EgressBurst: bits("egressBurst"),
	}
}

func (r *reader) subnetLists() Bandwidth {
	return Bandwidth{ShapedSubnets: r.subnets("shapedSubnets"), UnshapedSubnets: r.subnets("unshapedSubnets")}
}

func (r *reader) subnets(key string) []netip.Prefix {
	var subnets []netip.Prefix
	for _, text := range r.texts(key) {
		subnet, err := netip.ParsePrefix(text)
		if err != nil {
			r.fail(cnierr.New(cnierr.Config, "write subnets like 10.0.0.0/8 or fd00::/8", "%s: %s is not a subnet", r.at(key), quote(text)))
		}
		subnets = append(subnets, subnet)
	}
	return subnets
}

// known refuses other keys than these, unless they switch nothing on: a guest
// that is believed to be limited, and is not, is worse than an error.
func (r *reader) known(keys []string) {
	for _, key := range slices.Sorted(maps.Keys(r.vals)) {
		if slices.Contains(keys, key) || isOff(r.vals[key]) {
			continue
		}
		advice := "remove the key: it limits nothing"
		if near := nearest(key, keys); near != "" {
			advice = `did you mean "` + near + `"?`
		}
		r.fail(cnierr.New(cnierr.UnsupportedField, advice, "unknown key %s in %s with value %s", quote(key), r.path, show(r.vals[key])))
	}
}
