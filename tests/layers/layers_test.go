// Package layers holds the rules that keep the layers layers: who may import
// whom, and what a source file may look like. The table in this file is the
// only place where an import rule is written down; the linter's copy of it in
// .golangci.yml is generated from here.
package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/microvm-cni/microvm-cni"

// Modules that some layer may import.
const (
	cniTypes   = "github.com/containernetworking/cni/pkg/types"
	cniVersion = "github.com/containernetworking/cni/pkg/version"
	cniSkel    = "github.com/containernetworking/cni/pkg/skel"
	cniInvoke  = "github.com/containernetworking/cni/pkg/invoke"
	netlink    = "github.com/vishvananda/netlink"
	nftables   = "github.com/google/nftables"
	nfnetlink  = "github.com/mdlayher/netlink"
	iptables   = "github.com/coreos/go-iptables/iptables"
	cniIP      = "github.com/containernetworking/plugins/pkg/ip"
	cniUtils   = "github.com/containernetworking/plugins/pkg/utils"
	knftables  = "sigs.k8s.io/knftables"
	unix       = "golang.org/x/sys/unix"
)

// layer is what the files of a package that are no tests may import besides
// the standard library.
type layer struct {
	dir string // from the top of the module; "x/*" is each folder in x

	// imports are import paths; one that begins with pkg/ is ours, and one
	// that ends in /... also stands for all below it.
	imports []string

	// pure layers touch neither files nor processes nor the kernel: what they
	// give depends on nothing but their arguments.
	pure bool
}

// layers has a row for each package below pkg and plugins, lowest first.
var layers = []layer{
	{dir: "pkg/cnierr", pure: true},
	{dir: "pkg/attachment", pure: true, imports: []string{"pkg/cnierr"}},
	{dir: "pkg/linkspec", pure: true, imports: []string{"pkg/cnierr"}},
	{dir: "pkg/config", pure: true, imports: []string{"pkg/attachment", "pkg/cnierr", cniTypes + "/...", cniVersion}},
	{dir: "pkg/result", pure: true, imports: []string{"pkg/attachment", "pkg/cnierr", "pkg/linkspec", cniTypes + "/...", cniVersion}},
	{dir: "pkg/vmconf", imports: []string{"pkg/result", cniTypes + "/...", unix}},
	{dir: "pkg/plan", pure: true, imports: []string{
		"pkg/attachment", "pkg/cnierr", "pkg/config", "pkg/linkspec", "pkg/result", cniTypes + "/...",
	}},
	{dir: "pkg/reconcile", pure: true, imports: []string{"pkg/attachment", "pkg/cnierr", "pkg/linkspec"}},
	{dir: "pkg/kernel", imports: []string{"pkg/attachment", "pkg/cnierr", "pkg/linkspec", netlink, netlink + "/nl", unix}},
	{dir: "pkg/kernel/fake", imports: []string{"pkg/attachment", "pkg/cnierr", "pkg/linkspec"}},
	{dir: "pkg/kernel/kerneltest", imports: []string{"pkg/attachment", "pkg/cnierr", "pkg/linkspec", "pkg/reconcile"}},
	{dir: "pkg/nat", imports: []string{
		"pkg/cnierr", "pkg/linkspec", cniIP, cniUtils, iptables, nfnetlink, nftables, nftables + "/expr", nftables + "/userdata", unix,
	}},
	{dir: "pkg/datapath/tc", imports: []string{"pkg/cnierr", netlink, netlink + "/nl", unix}},
	{dir: "pkg/shape", imports: []string{"pkg/cnierr", "pkg/datapath/tc", "pkg/linkspec", netlink, netlink + "/nl", unix}},
	{dir: "pkg/datapath/tcbpf", imports: []string{"pkg/cnierr", "pkg/datapath/tc", netlink, unix}},
	{dir: "pkg/datapath/splice", imports: []string{"pkg/cnierr", "pkg/datapath/tc", "pkg/datapath/tcbpf", netlink, unix}},
	{dir: "pkg/datapath/guard", imports: []string{"pkg/cnierr", "pkg/datapath/tc", "pkg/datapath/tcbpf", "pkg/linkspec"}},
	{dir: "pkg/verbs", imports: []string{
		"pkg/attachment", "pkg/cnierr", "pkg/config", "pkg/kernel", "pkg/linkspec", "pkg/plan", "pkg/reconcile", "pkg/result",
		cniInvoke, cniSkel, cniTypes + "/...", cniVersion,
	}},
	{dir: "plugins/microvm-tap", imports: []string{"pkg/config", "pkg/plan", "pkg/verbs"}},
	{dir: "plugins/microvm-bridge", imports: []string{"pkg/config", "pkg/datapath/guard", "pkg/datapath/splice", "pkg/nat", "pkg/plan", "pkg/shape", "pkg/verbs"}},
}

// impure are the packages of the standard library that a pure layer does
// without.
var impure = []string{"io/ioutil", "os", "os/exec", "os/signal", "os/user", "syscall"}

// dead are packages that no plugin may link, at whatever depth: each ADD is a
// few process starts, and what is linked is initialised.
var dead = []string{
	"flag", iptables, "net/rpc", knftables, "testing",
	module + "/pkg/kernel/fake", module + "/pkg/kernel/kerneltest",
}

// alive are those of the dead that a plugin links all the same.
var alive = map[string][]string{
	// "ipMasqBackend": "iptables"; what loads BPF programs
	module + "/plugins/microvm-bridge": {iptables, knftables, "flag"},
}

// listed is what "go list" tells about a package.
type listed struct {
	ImportPath string
	Name       string
	Dir        string
	Standard   bool
	Imports    []string
	Deps       []string
}

func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	args = append([]string{"list", "-json=ImportPath,Name,Dir,Standard,Imports,Deps"}, args...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = top(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err = dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// top is the top folder of the module.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// check returns what is wrong with the imports of a package of this module.
func check(p listed, standard func(string) bool) []string {
	dir := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
	var faults []string
	if slices.Contains([]string{"common", "helper", "manager", "misc", "util"}, strings.TrimSuffix(p.Name, "s")) {
		faults = append(faults, fmt.Sprintf("package %s is named %s: name it after what it provides", dir, p.Name))
	}
	if !strings.HasPrefix(dir, "pkg/") && !strings.HasPrefix(dir, "plugins/") {
		return faults
	}
	i := slices.IndexFunc(layers, func(l layer) bool { return l.owns(dir) })
	if i < 0 {
		return append(faults, fmt.Sprintf("package %s is in no layer: give it a row in tests/layers/layers_test.go", dir))
	}
	for _, imp := range p.Imports {
		if !layers[i].allows(imp, standard(imp)) {
			faults = append(faults, fmt.Sprintf("package %s imports %s: its layer does not allow it", dir, imp))
		}
	}
	return faults
}

func (l layer) owns(dir string) bool {
	if ok, err := filepath.Match(l.dir, dir); err == nil && ok {
		return true
	}
	return false
}

func (l layer) allows(imp string, standard bool) bool {
	if standard {
		// Whatever runs a program runs it through cni/pkg/invoke.
		return imp != "os/exec" && (!l.pure || !slices.Contains(impure, imp))
	}
	return slices.ContainsFunc(l.imports, func(allowed string) bool {
		base, below := strings.CutSuffix(fullPath(allowed), "/...")
		return imp == base || below && strings.HasPrefix(imp, base+"/")
	})
}

// fullPath is the import path that a row of the table means.
func fullPath(imp string) string {
	if strings.HasPrefix(imp, "pkg/") {
		return module + "/" + imp
	}
	return imp
}

func TestImports(t *testing.T) {
	standard := map[string]bool{"C": true}
	for _, p := range goList(t, "std") {
		standard[p.ImportPath] = true
	}
	used := make([]bool, len(layers))
	for _, p := range goList(t, "./...") {
		for _, fault := range check(p, func(imp string) bool { return standard[imp] }) {
			t.Error(fault)
		}
		for i, l := range layers {
			used[i] = used[i] || l.owns(strings.TrimPrefix(p.ImportPath, module+"/"))
		}
	}
	for i, l := range layers {
		if !used[i] {
			t.Errorf("no package is in layer %s: remove its row", l.dir)
		}
	}
}

func TestPluginsAreLean(t *testing.T) {
	for _, p := range goList(t, "./plugins/...") {
		for _, dep := range p.Deps {
			if slices.Contains(dead, dep) && !slices.Contains(alive[p.ImportPath], dep) {
				t.Errorf("%s links %s: go mod why %s", p.ImportPath, dep, dep)
			}
		}
	}
}

// The rules themselves: packages that break one, and one that breaks none.
func TestRules(t *testing.T) {
	standard := func(imp string) bool { return !strings.Contains(strings.Split(imp, "/")[0], ".") }
	tests := []struct {
		dir, name string
		imports   []string
		want      string // in the only fault; none if empty
	}{
		{"pkg/plan", "plan", []string{"net", module + "/pkg/config", cniTypes, cniTypes + "/100"}, ""},
		{"plugins/microvm-tap", "main", []string{module + "/pkg/verbs"}, ""},
		{"tests/chain", "chain", []string{"os/exec", module + "/pkg/kernel"}, ""},
		{"pkg/plan", "plan", []string{module + "/pkg/kernel"}, "imports " + module + "/pkg/kernel"},
		{"pkg/plan", "plan", []string{cniTypes + "x"}, "imports " + cniTypes + "x"},
		{"pkg/plan", "plan", []string{"os"}, "imports os"},
		{"pkg/verbs", "verbs", []string{"os/exec"}, "imports os/exec"},
		{"pkg/verbs", "verbs", []string{module + "/pkg/kernel/fake"}, "imports " + module + "/pkg/kernel/fake"},
		{"pkg/kernel", "kernel", []string{cniSkel}, "imports " + cniSkel},
		{"pkg/linkspec", "linkspec", []string{module + "/pkg/attachment"}, "imports " + module + "/pkg/attachment"},
		{"plugins/microvm-tap", "main", []string{module + "/pkg/kernel"}, "imports " + module + "/pkg/kernel"},
		{"pkg/novelty", "novelty", nil, "in no layer"},
		{"pkg/kernel/novelty", "novelty", nil, "in no layer"},
		{"plugins/microvm-tap/novelty", "novelty", nil, "in no layer"},
		{"tests/utils", "utils", nil, "is named utils"},
		{"tests/helper", "helper", nil, "is named helper"},
	}
	for _, tt := range tests {
		faults := check(listed{ImportPath: module + "/" + tt.dir, Name: tt.name, Imports: tt.imports}, standard)
		switch {
		case tt.want == "" && len(faults) > 0:
			t.Errorf("%s importing %v: %q, want no fault", tt.dir, tt.imports, faults)
		case tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)):
			t.Errorf("%s importing %v: %q, want one fault that says %q", tt.dir, tt.imports, faults, tt.want)
		}
	}
}
