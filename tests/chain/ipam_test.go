package chain

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// says is an IPAM plugin that answers ADD with those addresses, and notes how
// it is called.
func says(ips string) string {
	return `echo "$CNI_COMMAND" >> /run/calls
if [ "$CNI_COMMAND" = ADD ]; then echo '{"cniVersion":"1.1.0","ips":[` + ips + `]}'; fi`
}

// Whatever an IPAM plugin does wrong, the error names it, and the bridge plugin
// leaves nothing: the tap is the runtime's to delete, by DEL of the chain.
func TestBadIPAM(t *testing.T) {
	const quiet = `[ "$CNI_COMMAND" = ADD ] || exit 0` + "\n"
	for _, test := range []struct {
		name   string
		script string // of the plugin "moody"
		ipam   conf   // its configuration, or that of another plugin
		more   conf   // of the bridge plugin
		code   uint
		words  []string
	}{
		{"fails", quiet + `echo '{"cniVersion":"1.1.0","code":11,"msg":"all gone","details":"x"}'; exit 1`, nil, nil, 11, []string{"moody", "all gone"}},
		{"fails with a code of its own", quiet + `echo '{"cniVersion":"1.1.0","code":123,"msg":"odd"}'; exit 1`, nil, nil, 123, []string{"moody", "odd"}},
		{"fails without a word", quiet + `exit 3`, nil, nil, 11, []string{"moody"}},
		{"fails on stderr", quiet + `echo "panic: oh" >&2; exit 2`, nil, nil, 11, []string{"moody", "oh"}},
		{"prints garbage", quiet + `echo garbage`, nil, nil, 6, []string{"moody"}},
		{"prints garbage and fails", quiet + `printf 'one\ntwo\n'; exit 1`, nil, nil, 11, []string{"moody"}},
		{"prints nothing", quiet, nil, nil, 6, []string{"moody"}},
		{"prints another version", quiet + `echo '{"cniVersion":"9.9.9","ips":[]}'`, nil, nil, 6, []string{"moody"}},
		{"prints a list", quiet + `echo '[]'`, nil, nil, 6, []string{"moody"}},
		{"prints null addresses", says(`null`), nil, nil, 6, []string{"moody", "null"}},
		{"no address", says(``), nil, nil, 103, []string{"moody", "no address"}},
		{"an address of no host", says(`{"address":"0.0.0.0/0"}`), nil, nil, 103, []string{"moody", "0.0.0.0"}},
		{"a multicast address", says(`{"address":"224.0.0.5/24"}`), nil, nil, 103, []string{"moody", "224.0.0.5"}},
		{"a family nobody asked for", says(`{"address":"fd00::5/64"}`), conf{"type": "moody", "subnet": "10.1.0.0/16"}, nil, 103, []string{"moody", "fd00::5", "family"}},
		{"one family too many", says(`{"address":"10.1.0.5/16"},{"address":"fd00::5/64"}`), conf{"type": "moody", "subnet": "10.1.0.0/16"}, nil, 103, []string{"moody", "fd00::5", "family"}},
		{"a gateway outside the subnet", says(`{"address":"10.1.0.5/16","gateway":"10.9.0.1"}`), nil, nil, 103, []string{"moody", "10.9.0.1", "outside"}},
		{"a gateway of another family", says(`{"address":"10.1.0.5/16","gateway":"fd00::1"}`), nil, nil, 103, []string{"moody", "fd00::1", "family"}},
		{"the gateway's address", says(`{"address":"10.1.0.1/16","gateway":"10.1.0.1"}`), nil, nil, 103, []string{"moody", "10.1.0.1"}},
		{"missing in CNI_PATH", "", conf{"type": "nowhere"}, nil, 7, []string{"nowhere"}},
		{"host-local with nothing left", "", conf{"type": "host-local", "ranges": [][]conf{{{"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"}}}}, nil, 11, []string{"host-local"}},
		{"static with a bad address", "", conf{"type": "static", "addresses": []conf{{"address": "none"}}}, nil, 11, []string{"static"}},
		{"is not asked for what cannot work", "", conf{"type": "host-local", "ranges": ranges("10.1.0.0/16", "fd00:1::/64")}, conf{"mtu": 1000}, 7, []string{"mtu"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.fake("moody", test.script)
			ipam := test.ipam
			if ipam == nil {
				ipam = conf{"type": "moody"}
			}
			n := h.pair(conf{"ipam": ipam}.with(test.more))
			v := h.vm("vm1")
			_, err := n.tryAdd(v)
			wantError(t, err, test.code, test.words...)
			onlyTheTap(t, h)
			// A plugin that is not there cannot be asked to forget the lease.
			if err := n.del(v); err != nil && test.name != "missing in CNI_PATH" {
				t.Errorf("DEL: %v", err)
			}
			h.empty()
		})
	}
}

// onlyTheTap fails the test if there is more than a tap that nobody holds.
func onlyTheTap(t *testing.T, h *host) {
	t.Helper()
	for _, l := range h.links() {
		if l.Info.Data.Type != "tap" {
			t.Errorf("link %s is there", l.Name)
			continue
		}
		if l.Master != "" || l.up() || strings.Contains(strings.Join(l.AltNames, " "), "microvm-bridge") {
			t.Errorf("tap is left so: %+v", l)
		}
	}
	if leases := h.leases("lab"); len(leases) > 0 {
		t.Errorf("leases are %v", leases)
	}
}

// A delegate whose ADD failed, or whose addresses cannot be used, is called
// with DEL before the error is returned; one that was never called is not.
func TestFailedDelegateIsCalledBack(t *testing.T) {
	for _, test := range []struct {
		name, script string
		more         conf
		calls        string
	}{
		{"fails", `echo "$CNI_COMMAND" >> /run/calls; exit 1`, nil, "ADD\nDEL\n"},
		{"fails in DEL too", `echo "$CNI_COMMAND" >> /run/calls; echo "$CNI_COMMAND" >&2; exit 1`, nil, "ADD\nDEL\n"},
		{"no address", says(``), nil, "ADD\nDEL\n"},
		{"address in use", says(`{"address":"10.1.0.5/16"}`), conf{"mtu": 1000, "bridge": "br9"}, ""},
		{"works", says(`{"address":"10.1.0.5/16"}`), nil, "ADD\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.bridge("br9", "")
			h.fake("moody", "cat >/dev/null\n"+test.script)
			n := h.network("lab", newest, tap, gateway.with(conf{"ipam": conf{"type": "moody"}}).with(test.more))
			v := h.vm("vm1")
			_, err := n.tryAdd(v)
			if (err == nil) != (test.name == "works") {
				t.Errorf("ADD: %v", err)
			}
			if calls := h.sh("cat /run/calls 2>/dev/null || true"); calls != test.calls {
				t.Errorf("calls were %q, want %q", calls, test.calls)
			}
			h.fake("moody", "")
			n.remove(v)
		})
	}
}

// A runtime that loses patience with a delegate that hangs ends the plugin with
// SIGTERM, and gets an error and a clean host.
func TestHangingIPAM(t *testing.T) {
	h := newHost(t)
	h.fake("moody", `[ "$CNI_COMMAND" = ADD ] || exit 0
echo hanging > /run/fifo
exec sleep 1000`)
	h.sh("mkfifo /run/fifo")
	n := h.pair(conf{"ipam": conf{"type": "moody"}})
	v := h.vm("vm1")
	first := h.exec(call{plugin: "microvm-tap", verb: "ADD", vm: v, stdin: n.single(0, nil)}).ok(t).object(t)

	ended := make(chan answer)
	go func() {
		ended <- h.exec(call{plugin: "microvm-bridge", verb: "ADD", vm: v, stdin: n.single(1, conf{"prevResult": first})})
	}()
	h.sh("cat /run/fifo")
	if err := unix.Kill(h.process("microvm-bridge"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	(<-ended).refused(t, newest, 11, "moody")
	onlyTheTap(t, h)
	n.remove(v)
}

// process is the one process of that name on the host.
func (h *host) process(name string) int {
	h.t.Helper()
	for _, pid := range h.processes() {
		comm, err := os.Open(filepath.Join("/proc", pid, "comm"))
		if err != nil {
			continue
		}
		line, _ := bufio.NewReader(comm).ReadString('\n')
		comm.Close()
		if strings.TrimSpace(line) == name {
			return number(h.t, pid)
		}
	}
	h.t.Fatalf("no process %s", name)
	return 0
}

// A full or read-only directory of leases is an error, and DEL takes the links
// away all the same.
func TestLeasesCannotBeWritten(t *testing.T) {
	h := newHost(t)
	n := h.pair(nil)
	v := h.vm("vm1")
	h.sh("mkdir -p " + leaseDir + "/lab && mount -t tmpfs -o ro tmpfs " + leaseDir + "/lab")
	_, err := n.tryAdd(v)
	wantError(t, err, 11, "host-local")
	onlyTheTap(t, h)
	_ = n.del(v) // whether host-local can forget what it never wrote is its own matter
	h.empty()
	h.sh("umount " + leaseDir + "/lab")
	n.add(v)
	n.remove(v)
}

// The delegate sees what it would see of the runtime, and none of our keys.
func TestWhatTheDelegateSees(t *testing.T) {
	h := newHost(t)
	h.fake("moody", `printf '%s' "$CNI_ARGS" > /run/args; printf '%s' "$conf" > /run/conf; env > /run/env
`+says(`{"address":"10.1.0.5/16"}`))
	n := h.pair(conf{"ipam": conf{"type": "moody", "own": 1}})
	v := h.vm("vm1")
	v.args = "IgnoreUnknown=1;TAP_NAME=vmtap;IP=10.1.0.5;MAC=02:00:00:00:00:07;K8S_POD_NAME=p;TAP_OWNER=0"
	n.add(v)
	if got, want := h.sh("cat /run/args"), "IgnoreUnknown=1;IP=10.1.0.5;K8S_POD_NAME=p"; got != want {
		t.Errorf("CNI_ARGS are %q, want %q", got, want)
	}
	for _, want := range []string{`"own":1`, `"prevResult"`, `"name":"lab"`} {
		if got := h.sh("cat /run/conf"); !strings.Contains(got, want) {
			t.Errorf("configuration lacks %s: %s", want, got)
		}
	}
	for _, want := range []string{"CNI_CONTAINERID=vm1", "CNI_IFNAME=eth0", "CNI_NETNS=" + v.netns, "CNI_COMMAND=ADD", "CNI_NETNS_OVERRIDE=1"} {
		if got := h.sh("cat /run/env"); !strings.Contains(got, want+"\n") {
			t.Errorf("environment lacks %s:\n%s", want, got)
		}
	}
	n.remove(v)
}
