package chain

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stride is how many N a test goes on after each one that it tries. The
// environment may ask for every single one, or for the Nth part of the usual.
func stride(t *testing.T, sample int) int {
	t.Helper()
	switch faults := os.Getenv("MICROVM_CNI_FAULTS"); faults {
	case "":
		return sample
	case "all":
		return 1
	default:
		return sample * max(1, number(t, faults))
	}
}

// walk is a VM on its way through the chain by hand: one call of one plugin
// meets a fault.
type walk struct {
	n      *network
	v      vm
	result map[string]any // of the last ADD

	away         bool   // the tap is in the VMM's namespace
	plugin, verb string // where the fault is
	fault        fault
	met          bool
}

// call runs one plugin.
func (w *walk) call(i int, verb string) answer {
	plugin := w.n.plugins[i].plugin()
	c := call{plugin: plugin, verb: verb, vm: w.v, stdin: w.n.single(i, nil)}
	if w.result != nil {
		c.stdin = w.n.single(i, conf{"prevResult": w.result})
	}
	if plugin != w.plugin || verb != w.verb {
		return w.n.h.exec(c)
	}
	a, met := w.n.h.trace(c, w.fault)
	w.met = w.met || met
	return a
}

// add runs ADD of both plugins, until one fails.
func (w *walk) add(t *testing.T) (a answer, ok bool) {
	t.Helper()
	w.result = nil
	for i := range w.n.plugins {
		if a = w.call(i, "ADD"); a.exit != 0 {
			return a, false
		}
		w.result = a.object(t)
	}
	return a, true
}

// del runs DEL of both plugins, until one fails, without prevResult: a runtime
// has none after an ADD that was killed.
func (w *walk) del() (a answer, ok bool) {
	w.result = nil
	for i := len(w.n.plugins) - 1; i >= 0; i-- {
		if a = w.call(i, "DEL"); a.exit != 0 {
			return a, false
		}
	}
	return a, true
}

// A plugin that is killed, before whatever system call of its own or of its
// delegate, leaves nothing that the next DEL or GC does not remove, and nothing
// that keeps the next ADD from working.
func TestKilled(t *testing.T) {
	for _, plugin := range []string{"microvm-tap", "microvm-bridge"} {
		for _, verb := range []string{"ADD", "DEL", "GC"} {
			t.Run(plugin+" "+verb, func(t *testing.T) {
				h := newHost(t)
				(&walk{n: h.pair(nil), v: h.vm("vm1"), plugin: plugin, verb: verb}).kills(t, 3)
			})
		}
	}
}

// The same with masquerading. iptables is some ten programs, each with calls of
// its own.
func TestKilledWhileMasquerading(t *testing.T) {
	for backend, sample := range map[string]int{"nftables": 5, "iptables": 97} {
		for _, verb := range []string{"ADD", "DEL", "GC"} {
			t.Run(backend+" "+verb, func(t *testing.T) {
				h := newHost(t)
				(&walk{n: h.masked(backend), v: h.vm("vm1"), plugin: "microvm-bridge", verb: verb}).kills(t, sample)
			})
		}
	}
}

// The same with limits that need both devices.
func TestKilledWhileLimiting(t *testing.T) {
	for _, verb := range []string{"ADD", "DEL", "GC"} {
		t.Run(verb, func(t *testing.T) {
			h := newHost(t)
			(&walk{n: h.pair(limitAll), v: h.vm("vm1"), plugin: "microvm-bridge", verb: verb}).kills(t, 4)
		})
	}
}

// kills runs into one kill after the other.
func (w *walk) kills(t *testing.T, sample int) {
	t.Helper()
	step, last := stride(t, sample), 0
	for n := 1; ; n += step {
		if w.killed(t, n); !w.met {
			break
		}
		last = n
	}
	if last == 0 || last+step <= 10 {
		t.Errorf("the last call was number %d: something is wrong with the tracer", last)
	}
}

// cures are what a runtime does after a plugin died.
var cures = []string{"DEL", "GC", "DEL without netns"}

func (w *walk) cure(cure string) error {
	switch cure {
	case "GC":
		return w.n.gc()
	case "DEL without netns":
		v := w.v
		v.netns = ""
		return w.n.del(v)
	default:
		return w.n.del(w.v)
	}
}

// killed runs into the kill, cures, and tries all again.
func (w *walk) killed(t *testing.T, n int) {
	t.Helper()
	w.fault, w.met = fault{n: n, calls: acts}, false
	a, ok := w.add(t)
	if ok && w.verb == "GC" {
		for i := range w.n.plugins {
			c := call{plugin: w.n.plugins[i].plugin(), verb: "GC", stdin: w.n.single(i, conf{"cni.dev/valid-attachments": []conf{}})}
			if c.plugin != w.plugin {
				w.n.h.exec(c).silent(t)
				continue
			}
			a, w.met = w.n.h.trace(c, w.fault)
		}
	} else if ok {
		a, _ = w.del()
	}
	plugin := w.plugin
	w.plugin = ""                              // no more faults
	cure := cures[(n+n/len(cures))%len(cures)] // another one each time, in any stride
	if err := w.cure(cure); err != nil {
		t.Errorf("kill %d: %s after it: %v", n, cure, err)
	}
	if cure != "DEL" {
		w.renew()
	}
	w.empty(t, fmt.Sprintf("kill %d, %s (exit %d %s)", n, cure, a.exit, a.stdout))
	if a, ok := w.add(t); !ok {
		t.Errorf("kill %d: the next ADD: %s", n, a.stdout)
	}
	if a, ok := w.del(); !ok {
		t.Errorf("kill %d: the DEL after that: %s", n, a.stdout)
	}
	w.empty(t, fmt.Sprintf("kill %d, %s, ADD and DEL", n, cure))
	w.plugin = plugin
}

// empty fails the test if something is left, and takes it away for the next try.
func (w *walk) empty(t *testing.T, after string) {
	t.Helper()
	w.released(t, after)
	h := w.n.h
	made, leases := h.made(), h.leases(w.n.name)
	for _, l := range h.inside() {
		t.Errorf("%s: left is %s in the VMM's namespace", after, l.Name)
		w.renew()
	}
	if rules := h.sh("nft list ruleset 2>/dev/null"); strings.Contains(rules, "microvm-cni") || strings.Contains(rules, "CNI-") {
		t.Errorf("%s: left are rules:\n%s", after, rules)
		h.sh("nft flush ruleset")
	}
	if len(made) > 0 || len(leases) > 0 {
		t.Errorf("%s: left are links %v, leases %v", after, made, leases)
		h.sh("for l in " + strings.Join(made, " ") + "; do ip link del $l; done; rm -rf " + leaseDir + "/*")
	}
}

// renew gives a VMM that died a new namespace: what is in the old one goes with it.
func (w *walk) renew() {
	if w.away {
		w.n.h.DeleteNetns("guests")
		w.n.h.NewNetns("guests")
	}
}

// A system call that fails makes an ADD fail, with an error and nothing left,
// or does not matter to it.
func TestFailingSystemCalls(t *testing.T) {
	failingSystemCalls(t, false)
}

func failingSystemCalls(t *testing.T, away bool) {
	t.Helper()
	for _, plugin := range []string{"microvm-tap", "microvm-bridge"} {
		for _, f := range []struct {
			name  string
			calls []uint64
			errno unix.Errno
		}{
			{"ioctl EPERM", []uint64{unix.SYS_IOCTL}, unix.EPERM},
			{"ioctl ENOMEM", []uint64{unix.SYS_IOCTL}, unix.ENOMEM},
			{"write ENOBUFS", []uint64{unix.SYS_WRITE}, unix.ENOBUFS},
			{"write ENOSPC", []uint64{unix.SYS_WRITE}, unix.ENOSPC},
			{"read EINTR", []uint64{unix.SYS_READ}, unix.EINTR},
			{"openat EMFILE", []uint64{unix.SYS_OPENAT}, unix.EMFILE},
			{"openat EACCES", []uint64{unix.SYS_OPENAT}, unix.EACCES},
			{"mkdirat EROFS", []uint64{unix.SYS_MKDIRAT}, unix.EROFS},
			{"socket or connect EPERM", []uint64{unix.SYS_SOCKET, unix.SYS_CONNECT}, unix.EPERM},
			{"flock ENOLCK", []uint64{unix.SYS_FLOCK}, unix.ENOLCK},
			{"pipe2 EMFILE", []uint64{unix.SYS_PIPE2}, unix.EMFILE},
			{"execve ENOMEM", []uint64{unix.SYS_EXECVE}, unix.ENOMEM},
			{"bpf ENOMEM", []uint64{unix.SYS_BPF}, unix.ENOMEM},
			{"bpf EPERM", []uint64{unix.SYS_BPF}, unix.EPERM},
			{"send ENOBUFS", []uint64{unix.SYS_SENDTO, unix.SYS_SENDMSG}, unix.ENOBUFS},
			{"receive ENOBUFS", []uint64{unix.SYS_RECVFROM, unix.SYS_RECVMSG}, unix.ENOBUFS},
			{"receive EINTR", []uint64{unix.SYS_RECVFROM, unix.SYS_RECVMSG}, unix.EINTR},
			{"setns EPERM", []uint64{unix.SYS_SETNS}, unix.EPERM},
			{"fcntl ENOMEM", []uint64{unix.SYS_FCNTL}, unix.ENOMEM},
		} {
			t.Run(plugin+" "+f.name, func(t *testing.T) {
				h := newHost(t)
				w := &walk{n: h.pair(nil), v: h.vm("vm1"), plugin: plugin, verb: "ADD", away: away}
				switch {
				case away:
					w.n = h.away(nil)
				case plugin == "microvm-bridge":
					w.n = h.pair(limitAll)
				}
				w.fault = fault{calls: map[uint64]bool{}, errno: f.errno}
				for _, nr := range f.calls {
					w.fault.calls[nr] = true
				}
				for w.met, w.fault.n = true, 1; w.met; w.fault.n += stride(t, 3) {
					w.failing(t)
				}
			})
		}
	}
}

// failing runs ADD of one plugin with a fault.
func (w *walk) failing(t *testing.T) {
	t.Helper()
	h := w.n.h
	w.result, w.met = nil, false
	i := 0
	if w.plugin == "microvm-bridge" {
		i = 1
		w.result = w.call(0, "ADD").ok(t).object(t)
	}
	before := h.snapshot("ip -d address show; ip -n guests -d address show")
	a := w.call(i, "ADD")
	switch {
	case a.exit == 0:
	case a.exit == 2 && strings.Contains(a.stderr, "runtime"): // Go itself gave up: as good as a kill
	default:
		code, _ := a.object(t)["code"].(float64)
		a.refused(t, newest, uint(code))
		same := before.same(t)
		if leases := h.leases("lab"); len(leases) > 0 || !same {
			t.Errorf("fault %d: leases %v, after exit %d, %s", w.fault.n, leases, a.exit, a.stdout)
		}
	}
	plugin := w.plugin
	w.plugin = ""
	if a, ok := w.del(); !ok {
		t.Errorf("fault %d: DEL: %s", w.fault.n, a.stdout)
	}
	w.empty(t, fmt.Sprintf("fault %d, DEL", w.fault.n))
	w.plugin = plugin
}

// A runtime that went away, and with it whoever would read the answer, is a failure
// like any other: ADD leaves nothing.
func TestNobodyReadsTheAnswer(t *testing.T) {
	for _, plugin := range []string{"microvm-tap", "microvm-bridge"} {
		t.Run(plugin, func(t *testing.T) {
			h := newHost(t)
			w := &walk{n: h.pair(nil), v: h.vm("vm1")}
			i := 0
			if plugin == "microvm-bridge" {
				i = 1
				w.result = w.call(0, "ADD").ok(t).object(t)
			}
			before := h.snapshot("ip -d address show")
			c := call{plugin: plugin, verb: "ADD", vm: w.v, stdin: w.n.single(i, nil)}
			if w.result != nil {
				c.stdin = w.n.single(i, conf{"prevResult": w.result})
			}
			err := h.do(func() error {
				r, out, err := os.Pipe()
				if err != nil {
					return err
				}
				defer out.Close()
				if err := r.Close(); err != nil {
					return err
				}
				cmd := h.command(c)
				cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.stdin), out, out
				if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
					return fmt.Errorf("%w, want exit status 1", err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			before.same(t)
			if leases := h.leases("lab"); len(leases) > 0 {
				t.Errorf("leases are %v", leases)
			}
			w.del()
		})
	}
}
