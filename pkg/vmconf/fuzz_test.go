package vmconf

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types/create"
)

// Whatever a result holds, reading it does not crash, and what was read stays in
// its place: one word of a command line, one line of a file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		onHost, inNetns, namedInNetns, withoutAddresses,
		strings.Replace(onHost, "lab.test", "a b", 1),                   // a word that is two
		strings.Replace(onHost, `"eth0"`, `"mvt-a"`, 1),                 // another interface of the tap's name
		strings.Replace(onHost, `"interface": 2`, `"interface": -1`, 1), // an index of nothing
		strings.Replace(onHost, `"ips": [`, `"ips": [null, `, 1),
		strings.Replace(inNetns, `"10.1.0.2/16"`, `"::ffff:10.1.0.2/112"`, 1),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := create.CreateFromBytes([]byte(text))
		if err != nil {
			return
		}
		n, err := Parse(r, vm1)
		if err != nil {
			return
		}
		boot, err := n.KernelIP("eth0")
		if err == nil && !printable(boot) {
			t.Errorf("%q is not one word", boot)
		}
		net, err := n.CloudHypervisor(1)
		if err == nil && !printable(net) {
			t.Errorf("%q is not one word", net)
		}
		config, err := CloudInit(map[string]*NIC{"eth0": n})
		if err != nil || !json.Valid(config) {
			t.Errorf("%v: %s", err, config)
		}
		for line := range strings.Lines(n.Networkd()) {
			line = strings.TrimSuffix(line, "\n")
			if key, _, ok := strings.Cut(line, "="); line != "" && line[0] != '[' && (!ok || !printable(key)) {
				t.Errorf("%q is no line of a .network file", line)
			}
		}
	})
}
