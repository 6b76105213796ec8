package config

import (
	"maps"
	"slices"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

const maxVLAN = 4094 // 4095 is reserved (IEEE 802.1Q)

var trunkKeys = []string{"id", "minID", "maxID"}

// vlan reads the number of a VLAN; 0 means not given.
func (r *reader) vlan(key string, least int64) int {
	return int(r.number(key, "a VLAN", least, maxVLAN))
}

// trunk reads "vlanTrunk": numbers and ranges of VLANs, which may overlap. It
// returns the numbers in their order.
func (r *reader) trunk() []int {
	in := map[int]bool{}
	for _, item := range r.objects("vlanTrunk") {
		for _, key := range slices.Sorted(maps.Keys(item.vals)) {
			if !slices.Contains(trunkKeys, key) {
				item.fail(cnierr.New(cnierr.UnsupportedField, `write it as {"id": 100} or {"minID": 100, "maxID": 200}`,
					"%s: unknown key %s", item.path, quote(key)))
			}
		}
		if item.has("id") {
			in[item.vlan("id", 1)] = true
		}
		first, last := item.vlan("minID", 1), item.vlan("maxID", 1)
		if item.err == nil {
			item.fail(checkRange(item, first, last))
		}
		if item.err == nil && first != 0 {
			for id := first; id <= last; id++ {
				in[id] = true
			}
		}
		r.fail(item.err)
	}
	if r.err != nil || len(in) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(in))
}

func checkRange(item *reader, first, last int) error {
	switch {
	case item.has("minID") != item.has("maxID"):
		return cnierr.New(cnierr.Config, "give both, or id for one VLAN", "%s: of minID and maxID only one is there", item.path)
	case !item.has("minID") && !item.has("id"):
		return cnierr.New(cnierr.Config, `write it as {"id": 100} or {"minID": 100, "maxID": 200}`, "%s: names no VLAN", item.path)
	case first > last:
		return cnierr.New(cnierr.Config, "put the smaller number into minID", "%s: minID %d is more than maxID %d", item.path, first, last)
	}
	return nil
}
