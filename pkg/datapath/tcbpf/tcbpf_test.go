package tcbpf_test

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tc"
	"github.com/microvm-cni/microvm-cni/pkg/datapath/tcbpf"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

func run(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// newLink makes a host with a device, moves the test there, and returns the index.
func newLink(t *testing.T) int {
	t.Helper()
	sandbox.NewHost(t).Enter()
	run(t, "ip link add port up type veth peer name other")
	t.Cleanup(func() { run(t, "ip link del port") })
	port, err := netlink.LinkByName("port")
	if err != nil {
		t.Fatal(err)
	}
	return port.Attrs().Index
}

// load returns a program that gives that verdict, and its tag.
func load(t *testing.T, verdict int32) (*ebpf.Program, tcbpf.Program) {
	t.Helper()
	// Linux before 5.11 counts programs as locked memory, also some that are gone.
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "test", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, ok := info.ID()
	if !ok {
		t.Fatal("program without an ID")
	}
	return p, tcbpf.Program{ID: uint32(id), Tag: info.Tag}
}

func attach(t *testing.T, f tcbpf.Filter, p *ebpf.Program) {
	t.Helper()
	if err := f.Attach(p); err != nil {
		t.Fatal(err)
	}
}

func detach(t *testing.T, f tcbpf.Filter) {
	t.Helper()
	if err := f.Detach(); err != nil {
		t.Error(err)
	}
}

func check(t *testing.T, f tcbpf.Filter, want tcbpf.Program) {
	t.Helper()
	got, err := f.Observe()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s at the %s: observed %+v, want %+v", f.Name, f.Hook, got, want)
	}
}

// state is all that tc shows.
func state(t *testing.T) string {
	t.Helper()
	return run(t, "tc qdisc show dev port") + run(t, "tc filter show dev port ingress") + run(t, "tc filter show dev port egress")
}

func TestAttach(t *testing.T) {
	link := newLink(t)
	before := state(t)
	for _, hook := range []tc.Hook{tc.Ingress, tc.Egress} {
		f := tcbpf.Filter{Link: link, Hook: hook, Priority: 7, Name: "microvm-cni:test"}
		check(t, f, tcbpf.Program{})
		detach(t, f)
		first, firstThere := load(t, -1)
		attach(t, f, first)
		check(t, f, firstThere)
		attach(t, f, first)
		check(t, f, firstThere)
		second, secondThere := load(t, 0)
		attach(t, f, second)
		check(t, f, secondThere)
		if s := run(t, "tc filter show dev port "+hook.String()); strings.Count(s, "direct-action") != 1 || !strings.Contains(s, "pref 7 ") {
			t.Errorf("tc shows\n%s", s)
		}
		detach(t, f)
		check(t, f, tcbpf.Program{})
		detach(t, f)
		if after := state(t); after != before {
			t.Errorf("detached:\n%s\nwas:\n%s", after, before)
		}
	}
}

// programs are those at tcx, in their order; none where the kernel has no tcx.
func programs(t *testing.T, port int, at ebpf.AttachType) (ids []uint32, ok bool) {
	t.Helper()
	there, err := link.QueryPrograms(link.QueryOptions{Target: port, Attach: at})
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range there.Programs {
		ids = append(ids, uint32(p.ID))
	}
	return ids, true
}

// What asks for tcx is there where the kernel has that, beside what others have
// there, and a filter where it has not.
func TestAttachAtTCX(t *testing.T) {
	port := newLink(t)
	before := state(t)
	for hook, at := range map[tc.Hook]ebpf.AttachType{tc.Ingress: ebpf.AttachTCXIngress, tc.Egress: ebpf.AttachTCXEgress} {
		f := tcbpf.Filter{Link: port, Hook: hook, Priority: 7, Name: "microvm-cni:test", Program: "test"}
		check(t, f, tcbpf.Program{})
		detach(t, f)
		first, firstThere := load(t, -1)
		attach(t, f, first)
		check(t, f, firstThere)
		ids, supported := programs(t, port, at)
		if supported && (!slices.Equal(ids, []uint32{firstThere.ID}) || state(t) != before) {
			t.Errorf("at tcx there are %d, want %d; tc shows\n%s", ids, firstThere.ID, state(t))
		}
		if !supported && !strings.Contains(state(t), "microvm-cni:test") {
			t.Errorf("no tcx, and tc shows\n%s", state(t))
		}
		second, secondThere := load(t, 0)
		attach(t, f, second)
		check(t, f, secondThere)
		if supported {
			theirs := theirsBefore(t, port, at)
			secondThere.Before = fmt.Sprintf("program %d at tcx", theirs)
			check(t, f, secondThere)
			attach(t, f, first)
			firstThere.Before = secondThere.Before
			check(t, f, firstThere)
			if ids, _ := programs(t, port, at); !slices.Equal(ids, []uint32{theirs, firstThere.ID}) {
				t.Errorf("at tcx there are %d, want %d and %d", ids, theirs, firstThere.ID)
			}
			detach(t, f)
			if ids, _ := programs(t, port, at); !slices.Equal(ids, []uint32{theirs}) {
				t.Errorf("detached, and there are %d, want %d", ids, theirs)
			}
		}
		detach(t, f)
		if after := state(t); after != before {
			t.Errorf("detached:\n%s\nwas:\n%s", after, before)
		}
	}
}

// theirsBefore puts a program of somebody else's first, and returns its ID.
func theirsBefore(t *testing.T, port int, at ebpf.AttachType) uint32 {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "theirs", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: port, Program: p, Attach: at, Anchor: link.Head()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	id, _ := info.ID()
	return uint32(id)
}

// A hook holds so many programs.
func TestTCXIsFull(t *testing.T) {
	port := newLink(t)
	if _, supported := programs(t, port, ebpf.AttachTCXIngress); !supported {
		t.Log("this kernel has no tcx")
		return
	}
	f := tcbpf.Filter{Link: port, Hook: tc.Ingress, Program: "test"}
	for range 63 {
		theirsBefore(t, port, ebpf.AttachTCXIngress)
	}
	p, _ := load(t, -1)
	refusedAs(t, f.Attach(p), cnierr.Exists)
}

// A frame meets one program or the other while one replaces the other.
func TestReplaceIsAtomic(t *testing.T) {
	for name, program := range map[string]string{"filter": "", "tcx": "test"} {
		t.Run(name, func(t *testing.T) { replaceIsAtomic(t, program) })
	}
}

func replaceIsAtomic(t *testing.T, program string) {
	link := newLink(t)
	f := tcbpf.Filter{Link: link, Hook: tc.Egress, Priority: 7, Name: "microvm-cni:test", Program: program}
	drop, _ := load(t, 2)
	attach(t, f, drop)
	other, err := netlink.LinkByName("other")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "ip link set other up")
	received := func() uint64 {
		l, lookup := netlink.LinkByIndex(other.Attrs().Index)
		if lookup != nil {
			t.Fatal(lookup)
		}
		return l.Attrs().Statistics.RxPackets
	}
	before := received()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				_ = unix.Sendto(fd, make([]byte, 60), 0, &unix.SockaddrLinklayer{Ifindex: link})
			}
		}
	}()
	for range 100 {
		again, _ := load(t, 2)
		attach(t, f, again)
	}
	close(stop)
	if n := <-stopped; n < 100 {
		t.Errorf("only %d frames sent meanwhile", n)
	}
	if after := received(); after != before {
		t.Errorf("%d frames passed", after-before)
	}
	detach(t, f)
}

// What others have at the device stays as it is.
func TestForeign(t *testing.T) {
	for _, tt := range []struct {
		name, foreign string
		refused       bool
	}{
		{"u32 at the priority", "tc filter add dev port ingress pref 7 protocol all u32 match u32 0 0", true},
		{"u32 of another protocol at the priority", "tc filter add dev port ingress pref 7 protocol ip u32 match u32 0 0", true},
		{"u32 at another priority", "tc filter add dev port ingress pref 50000 protocol all u32 match u32 0 0", false},
		{"u32 at the other hook", "tc filter add dev port egress pref 7 protocol all u32 match u32 0 0", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			link := newLink(t)
			run(t, "tc qdisc add dev port clsact")
			run(t, tt.foreign)
			before := state(t)
			f := tcbpf.Filter{Link: link, Hook: tc.Ingress, Priority: 7, Name: "microvm-cni:test"}
			p, there := load(t, -1)
			err := f.Attach(p)
			if tt.refused {
				refusedAs(t, err, cnierr.Exists)
				there = taken
			} else if err != nil {
				t.Error(err)
			}
			check(t, f, there)
			detach(t, f)
			if after := state(t); after != before {
				t.Errorf("detached:\n%s\nwas:\n%s", after, before)
			}
		})
	}
}

func refusedAs(t *testing.T, err error, code cnierr.Code) {
	t.Helper()
	var e *cnierr.Error
	if !errors.As(err, &e) || e.Code != code || e.Details == "" {
		t.Errorf("%v, want an error of code %d, with details", err, code)
	}
}

// A program at tcx comes before all filters. Linux before 6.6 has no such hook.
func TestForeignTCX(t *testing.T) {
	for hook, tcx := range map[tc.Hook]ebpf.AttachType{tc.Ingress: ebpf.AttachTCXIngress, tc.Egress: ebpf.AttachTCXEgress} {
		t.Run(hook.String(), func(t *testing.T) {
			index := newLink(t)
			f := tcbpf.Filter{Link: index, Hook: hook, Priority: 7, Name: "microvm-cni:test"}
			other := f
			other.Hook = map[tc.Hook]tc.Hook{tc.Ingress: tc.Egress, tc.Egress: tc.Ingress}[hook]
			p, there := load(t, -1)
			attach(t, f, p)
			attach(t, other, p)
			theirs, _ := load(t, 0)
			more, _ := load(t, 0)
			for _, p := range []*ebpf.Program{theirs, more} {
				l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: tcx})
				if errors.Is(err, ebpf.ErrNotSupported) {
					t.Log("this kernel has no tcx")
					check(t, f, there)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = l.Close() }()
			}
			info, err := theirs.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			check(t, other, there)
			there.Before = fmt.Sprintf("program %d at tcx", id)
			check(t, f, there)
			detach(t, f)
			check(t, f, tcbpf.Program{Before: there.Before})
		})
	}
}

// taken is what is observed where somebody else has the place.
var taken = tcbpf.Program{Instead: "somebody else's filter has its preference"}

// A program of the same priority, but of another name, is not ours.
func TestForeignProgram(t *testing.T) {
	link := newLink(t)
	theirs := tcbpf.Filter{Link: link, Hook: tc.Ingress, Priority: 7, Name: "theirs"}
	ours := theirs
	ours.Name = "ours"
	p, there := load(t, -1)
	attach(t, theirs, p)
	refusedAs(t, ours.Attach(p), cnierr.Exists)
	check(t, ours, taken)
	detach(t, ours)
	check(t, theirs, there)
	detach(t, theirs)
}

func TestIngressQdisc(t *testing.T) {
	link := newLink(t)
	run(t, "tc qdisc add dev port ingress")
	f := tcbpf.Filter{Link: link, Hook: tc.Egress, Priority: 7, Name: "microvm-cni:test"}
	p, _ := load(t, -1)
	refusedAs(t, f.Attach(p), cnierr.Exists)
}

func TestNoDevice(t *testing.T) {
	link := newLink(t)
	f := tcbpf.Filter{Link: link + 1000, Hook: tc.Ingress, Priority: 7, Name: "microvm-cni:test"}
	p, _ := load(t, -1)
	if err := f.Attach(p); !errors.Is(err, unix.ENODEV) {
		t.Errorf("attach to no device: %v", err)
	}
	check(t, f, tcbpf.Program{})
	detach(t, f)
}

func TestLoadRefused(t *testing.T) {
	_, err := tcbpf.Redirect(9999, 1).Load("bad")
	refusedAs(t, err, cnierr.Kernel)
}
