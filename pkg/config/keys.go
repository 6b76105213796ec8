package config

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// plugin is what is known about the configuration of one of the two plugins.
type plugin struct {
	name    string
	keys    []string // that it reads
	refused []string // that users of the upstream plugins know, and that make no sense here
}

// standardKeys mean the same in every plugin.
var standardKeys = []string{"cniVersion", "name", "type", "capabilities", "runtimeConfig", "args", "prevResult"}

var tapPlugin = plugin{
	name: "microvm-tap",
	keys: slices.Concat(standardKeys, []string{
		"placement", "owner", "group", "multiQueue", "mtu", "mac", "selinuxContext", "txQueueLen",
	}),
}

var bridgePlugin = plugin{
	name: "microvm-bridge",
	keys: slices.Concat(standardKeys, []string{
		"bridge", "bridgeMode", "isGateway", "isDefaultGateway", "forceAddress", "mtu", "hairpinMode", "promiscMode",
		"portIsolation", "enabledad", "ipMasq", "ipMasqBackend", "guard", "macspoofchk",
		"vlan", "vlanTrunk", "preserveDefaultVlan", "ipam", "ipamCheck", "dns", "uplink",
	}, rateKeys, subnetKeys),
	refused: []string{"disableContainerInterface"},
}

// check refuses every key that the plugin does not read. Keys with a slash
// belong to others ("cni.dev/valid-attachments", which libcni puts in).
func (p plugin) check(keys []string, obj object, sister plugin) error {
	for _, key := range keys {
		value := obj[key]
		switch {
		case slices.Contains(p.keys, key), strings.Contains(key, "/"):
		case slices.Contains(p.refused, key):
			if !isOff(value) {
				return senseless(key, value)
			}
		case slices.Contains(sister.keys, key), slices.Contains(sister.refused, key):
			// Runtimes that write configurations from Go structs put an empty
			// "ipam" into every plugin.
			if !isEmptyObject(value) {
				return cnierr.New(cnierr.UnsupportedField, p.misplaced(key, sister), "unknown key %s with value %s", quote(key), show(value))
			}
		default:
			return cnierr.New(cnierr.UnsupportedField, p.advise(key), "unknown key %s with value %s", quote(key), show(value))
		}
	}
	return nil
}

func senseless(key string, value json.RawMessage) error {
	return cnierr.New(cnierr.UnsupportedField, "remove the key: a guest's NIC is the guest's own, there is no container interface to leave down",
		"key %q with value %s makes no sense for a VM", key, show(value))
}

// misplaced says what to do about a key of the other plugin.
func (p plugin) misplaced(key string, sister plugin) string {
	if slices.Contains(sister.refused, key) {
		return "remove the key: it makes no sense for a VM"
	}
	return "the key belongs to " + sister.name + ": move it there"
}

// advise says what to do about a key that nobody knows.
func (p plugin) advise(key string) string {
	if near := nearest(key, slices.Concat(p.keys, p.refused)); near != "" {
		if slices.Contains(p.refused, near) {
			return "remove the key: it looks like \"" + near + "\", which makes no sense for a VM"
		}
		return "did you mean \"" + near + "\"?"
	}
	return "remove the key; " + p.name + " knows " + strings.Join(p.keys, ", ")
}

// isOff tells whether a value switches nothing on: false, 0, "", [] or {}, or
// an object of nothing but such.
func isOff(raw json.RawMessage) bool {
	var v any
	return json.Unmarshal(raw, &v) == nil && allOff(v)
}

func allOff(v any) bool {
	switch v := v.(type) {
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, inner := range v {
			if !allOff(inner) {
				return false
			}
		}
	}
	return true // null, or an object of nothing but such
}

func isEmptyObject(raw json.RawMessage) bool {
	var b bytes.Buffer
	return json.Compact(&b, raw) == nil && b.String() == "{}"
}

// nearest returns the known word that a misspelled one most likely means, or ""
// if none is near: half of a short word may not be guessed away.
func nearest(word string, known []string) string {
	best, least := "", max(1, len(word)/3)
	if len(word) > 4*maxShown { // no typing error
		return best
	}
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < least || d == least && best == "" {
			best, least = k, d
		}
	}
	return best
}

// distance counts the characters that were typed wrong, too many, too few, or
// in the wrong order (optimal string alignment).
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
