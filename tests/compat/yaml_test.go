package compat

import (
	"encoding/json"
	"reflect"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/microvm-cni/microvm-cni/pkg/vmconf"
)

// cloud-init reads YAML: what we write in JSON is the same to both.
func TestCloudInitIsYAML(t *testing.T) {
	nic, err := vmconf.Parse(answer(t, []string{bridge, tap, guest, port}, []string{ip4, ip6OnTap}), attachment)
	if err != nil {
		t.Fatal(err)
	}
	nic.DNS.Domain = `no: "yes" # {<&>}`
	nic.MTU = 1400
	text, err := vmconf.CloudInit(map[string]*vmconf.NIC{"eth0": nic})
	if err != nil {
		t.Fatal(err)
	}
	var asJSON, asYAML any
	if err := json.Unmarshal(text, &asJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &asYAML); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	// Numbers have another type; written once more they are the same.
	again, err := json.Marshal(asYAML)
	if err != nil {
		t.Fatal(err)
	}
	var fromYAML any
	if err := json.Unmarshal(again, &fromYAML); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(asJSON, fromYAML) {
		t.Errorf("JSON says %v, YAML says %v", asJSON, fromYAML)
	}
}
