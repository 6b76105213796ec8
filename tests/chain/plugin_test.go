package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

// call is one run of one plugin by the bare protocol.
type call struct {
	plugin string
	verb   string
	vm     vm
	env    []string // more of the environment; "KEY" alone takes one away
	stdin  string
}

// patience is how long a plugin may take before the test ends it. It takes
// milliseconds, but ten iptables one after the other, on an emulated CPU that
// shares its core, do not.
const patience = 2 * time.Minute

// answer is how a run ended.
type answer struct {
	stdout, stderr string
	exit           int
	err            error // the process could not be run at all
}

// json is the object as text.
func (c conf) json() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// single is the configuration of one plugin as libcni would send it.
func (n *network) single(i int, more conf) string {
	return n.plugins[i].with(conf{"cniVersion": n.version, "name": n.name}).with(more).json()
}

// command is the process that the call starts.
func (h *host) command(c call) *exec.Cmd {
	env := []string{
		"CNI_COMMAND=" + c.verb, "CNI_CONTAINERID=" + c.vm.id, "CNI_NETNS=" + c.vm.netns, "CNI_IFNAME=" + c.vm.ifname,
		"CNI_ARGS=" + c.vm.args, "CNI_PATH=" + strings.Join(cniPath(), ":"), "PATH=" + os.Getenv("PATH"),
	}
	for _, e := range c.env {
		key, _, set := strings.Cut(e, "=")
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		if set {
			env = append(env, e)
		}
	}
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(bin, c.plugin))
	cmd.Env = env
	return cmd
}

// exec runs the call.
func (h *host) exec(c call) answer {
	var stdout, stderr bytes.Buffer
	a := answer{}
	err := h.do(func() error {
		cmd := h.command(c)
		defer time.AfterFunc(patience, func() { _ = cmd.Cancel() }).Stop()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), &stdout, &stderr
		err := cmd.Run()
		a.exit = cmd.ProcessState.ExitCode()
		return err
	})
	a.stdout, a.stderr = stdout.String(), stderr.String()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		a.err = err
	}
	return a
}

// ok fails the test unless the plugin succeeded and kept stderr clean.
func (a answer) ok(t *testing.T) answer {
	t.Helper()
	if a.err != nil || a.exit != 0 || a.stderr != "" {
		t.Fatalf("exit %d, %v\nstdout: %s\nstderr: %s", a.exit, a.err, a.stdout, a.stderr)
	}
	return a
}

// silent is ok, and nothing was printed at all.
func (a answer) silent(t *testing.T) {
	t.Helper()
	if a.ok(t); a.stdout != "" {
		t.Errorf("printed %q", a.stdout)
	}
}

// object is the one JSON document that a plugin printed.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(a.stdout))
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("stdout is no JSON object: %v\n%s\nstderr: %s", err, a.stdout, a.stderr)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("stdout holds more than one JSON document:\n%s", a.stdout)
	}
	return doc
}

// refused fails the test unless the plugin ended with one error document of
// that code, whose message holds the words. Version "" is not looked at.
func (a answer) refused(t *testing.T, version string, code uint, words ...string) {
	t.Helper()
	if a.err != nil || a.exit <= 0 {
		t.Fatalf("exit %d, %v, want an error\nstdout: %s\nstderr: %s", a.exit, a.err, a.stdout, a.stderr)
	}
	doc := a.object(t)
	for key := range doc {
		switch key {
		case "cniVersion", "code", "msg", "details":
		default:
			t.Errorf("error document has the key %q", key)
		}
	}
	if got, _ := doc["cniVersion"].(string); got == "" || version != "" && got != version {
		t.Errorf("error document has cniVersion %q, want %q", got, version)
	}
	msg, _ := doc["msg"].(string)
	details, _ := doc["details"].(string)
	number, _ := doc["code"].(float64)
	complaint(t, &types.Error{Code: uint(number), Msg: msg, Details: details}, code, words...)
	if a.stderr != "" {
		t.Errorf("stderr: %s", a.stderr)
	}
}

// wantError fails the test unless err is a plugin's error of that code, whose
// message holds the words.
func wantError(t *testing.T, err error, code uint, words ...string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) {
		t.Errorf("got error %v, want code %d about %q", err, code, words)
		return
	}
	complaint(t, e, code, words...)
}

func complaint(t *testing.T, e *types.Error, code uint, words ...string) {
	t.Helper()
	if e.Code != code {
		t.Errorf("code %d, want %d: %s", e.Code, code, e.Msg)
	}
	if e.Msg == "" || strings.ContainsAny(e.Msg, "\n\r") {
		t.Errorf("message is not one line: %q", e.Msg)
	}
	if e.Details == "" {
		t.Errorf("no details: %s", e.Msg)
	}
	for _, w := range words {
		if !strings.Contains(e.Msg, w) {
			t.Errorf("message does not tell of %q: %s", w, e.Msg)
		}
	}
}

// fake installs a plugin that is a shell script. It finds its configuration in
// $conf.
func (h *host) fake(name, script string) {
	h.t.Helper()
	h.sh("cat > " + pluginDir + "/" + name + " <<'END'\n#!/bin/sh\nconf=$(cat)\n" + script + "\nEND\nchmod +x " + pluginDir + "/" + name)
}
