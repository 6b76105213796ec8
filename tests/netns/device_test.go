package netns

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/attachment"
	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/kernel"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ip runs a command of iproute2, as an administrator would.
func ip(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func look(t *testing.T, k *kernel.Kernel, name string) linkspec.Link {
	t.Helper()
	l, err := k.Link(name)
	must(t, err)
	return l
}

func create(t *testing.T, k *kernel.Kernel, l linkspec.Link) linkspec.Link {
	t.Helper()
	draft, err := k.Create(l)
	must(t, err)
	must(t, draft.Keep())
	return look(t, k, l.Name)
}

// openTap attaches to a tap that is there, as a VMM does.
func openTap(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	must(t, err)
	tap := os.NewFile(uintptr(fd), name)
	request, err := unix.NewIfreq(name)
	must(t, err)
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	t.Cleanup(func() { tap.Close() })
	return tap
}

// A bridge that was made with a tag carries no trace of how it got it.
func TestBridgeGroup(t *testing.T) {
	k := newKernel(t)
	create(t, k, linkspec.Link{Kind: linkspec.Bridge, Name: "br0", Alias: new(attachment.BridgeTag)})
	if out := ip(t, "ip", "-d", "link", "show", "br0"); !strings.Contains(out, "group default") || !strings.Contains(out, "alias "+attachment.BridgeTag) {
		t.Errorf("bridge is\n%s", out)
	}
}

// What the kernel says of a tap agrees with what `ip` reads and an
// administrator set.
func TestTapOfAnAdministrator(t *testing.T) {
	k := newKernel(t)
	ip(t, "ip", "link", "add", "br0", "type", "bridge")
	ip(t, "ip", "tuntap", "add", "tap0", "mode", "tap", "user", "1000", "group", "107", "multi_queue")
	ip(t, "ip", "link", "set", "tap0", "alias", "somebody's", "address", "02:00:00:00:00:07", "mtu", "1300", "txqueuelen", "5")
	ip(t, "ip", "link", "set", "tap0", "master", "br0", "promisc", "on", "up")
	ip(t, "ip", "link", "property", "add", "dev", "tap0", "altname", "a-name-of-more-than-15-bytes")
	ip(t, "bridge", "link", "set", "dev", "tap0", "isolated", "on", "hairpin", "on")
	ip(t, "ip", "addr", "add", "10.0.0.1/24", "dev", "tap0")
	want := linkspec.Link{
		Name: "tap0", Kind: linkspec.Tap, Owner: new(uint32(1000)), Group: new(uint32(107)), MultiQueue: new(true), Persist: new(true),
		Alias: new("somebody's"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, MTU: new(1300), TxQueueLen: new(5), Master: new("br0"),
		Promisc: new(true), Up: new(true), Isolated: new(true), Hairpin: new(true), AltNames: []string{"a-name-of-more-than-15-bytes"},
		Addresses: []linkspec.Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24")}},
	}
	for _, d := range linkspec.Diff(want, look(t, k, "a-name-of-more-than-15-bytes")) {
		t.Error(d)
	}
	ip(t, "ip", "tuntap", "add", "tun0", "mode", "tun")
	if l := look(t, k, "tun0"); l.Kind == linkspec.Tap {
		t.Errorf("a TUN device is\n%v", l)
	}
}

// Promisc is what an administrator asked for: neither a packet socket nor being
// a port counts, though both make a device promiscuous.
func TestPromiscIsTheAdministrators(t *testing.T) {
	k := newKernel(t)
	create(t, k, linkspec.Link{Kind: linkspec.Bridge, Name: "br0"})
	tap := create(t, k, linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	must(t, k.Set(tap, linkspec.Link{Master: new("br0"), Up: new(true)}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(tap.Index), Type: unix.PACKET_MR_PROMISC}))
	if out := ip(t, "ip", "-d", "link", "show", "tap0"); !strings.Contains(out, "promiscuity 2") {
		t.Fatalf("tap is not promiscuous twice:\n%s", out)
	}
	if l := look(t, k, "tap0"); *l.Promisc {
		t.Errorf("link is\n%v", l)
	}
}

// Static entries bind an address to a port; learned ones do not.
func TestHolderOfForwardingEntries(t *testing.T) {
	k := newKernel(t)
	must(t, k.Set(create(t, k, linkspec.Link{Kind: linkspec.Bridge, Name: "br0"}), linkspec.Link{Up: new(true)}))
	tap := create(t, k, linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	vmm := openTap(t, "tap0")
	must(t, k.Set(tap, linkspec.Link{Master: new("br0"), Up: new(true)}))

	static, learned := "02:aa:00:00:00:01", "02:aa:00:00:00:02"
	ip(t, "bridge", "fdb", "add", static, "dev", "tap0", "master", "static")
	frame := make([]byte, 60)
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0xaa, 0, 0, 0, 0x02, 0x88, 0xb5})
	// A port learns once the bridge has noticed its carrier.
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(ip(t, "bridge", "fdb", "show", "br", "br0"), learned); {
		if time.Now().After(deadline) {
			t.Fatal("the bridge does not learn")
		}
		_, err := vmm.Write(frame)
		must(t, err)
	}
	for mac, want := range map[string]string{static: "tap0", learned: "", "02:aa:00:00:00:03": ""} {
		parsed, err := net.ParseMAC(mac)
		must(t, err)
		if got, err := k.Holder("br0", parsed); err != nil || got != want {
			t.Errorf("%s is held by %q, error %v, want %q", mac, got, err, want)
		}
	}
}

// A VMM that holds the tap does not keep it from being deleted.
func TestDeleteWhileInUse(t *testing.T) {
	k := newKernel(t)
	tap := create(t, k, linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	file := openTap(t, "tap0")
	must(t, k.Delete(tap))
	if _, err := k.Link("tap0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
	if _, err := file.Write(make([]byte, 60)); !errors.Is(err, unix.EBADFD) {
		t.Errorf("write: error %v, want EBADFD", err)
	}
}

// An address that failed duplicate address detection is set anew.
func TestFailedAddress(t *testing.T) {
	host := sandbox.NewHost(t, sandbox.LinksMayStay)
	other := host.NewNetns("other")
	host.Enter()
	k := openKernel(t, filepath.Join(t.TempDir(), "lock"))
	ip(t, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", "other")
	ip(t, "ip", "-n", "other", "link", "set", "v1", "up")
	ip(t, "ip", "-n", "other", "addr", "add", "fd00::1/64", "dev", "v1", "nodad")
	ip(t, "ip", "link", "set", "v0", "up")

	monitor := exec.Command("ip", "monitor", "address")
	events, err := monitor.StdoutPipe()
	must(t, err)
	must(t, monitor.Start())
	defer func() { _ = monitor.Wait() }()
	defer func() { _ = monitor.Process.Kill() }()
	gateway := linkspec.Address{Prefix: netip.MustParsePrefix("fd00::1/64")}
	must(t, k.Set(look(t, k, "v0"), linkspec.Link{Addresses: []linkspec.Address{gateway}}))
	for lines := bufio.NewScanner(events); lines.Scan() && !failed(look(t, k, "v0")); {
	}
	l := look(t, k, "v0")
	if !failed(l) {
		t.Fatalf("no address of v0 failed (%s has it, too):\n%v", other, l)
	}
	want := linkspec.Link{Name: "v0", Addresses: []linkspec.Address{gateway}}
	if len(linkspec.Diff(want, l)) == 0 {
		t.Error("a failed address counts as there")
	}
	gateway.NoDAD = true
	must(t, k.Set(l, linkspec.Link{Addresses: []linkspec.Address{gateway}}))
	l = look(t, k, "v0")
	if failed(l) || len(linkspec.Diff(want, l)) != 0 {
		t.Errorf("link is\n%v%+v", l, l.Addresses)
	}
}

func failed(l linkspec.Link) bool {
	for _, a := range l.Addresses {
		if a.Failed {
			return true
		}
	}
	return false
}

// Without /dev/net/tun the error says what to do, and nothing is left.
func TestNoTun(t *testing.T) {
	k := newKernel(t)
	must(t, kernel.ProbeTun())
	must(t, unix.Mount("none", "/dev/net", "tmpfs", 0, ""))
	_, err := k.Create(linkspec.Link{Kind: linkspec.Tap, Name: "tap0"})
	for _, err := range []error{err, kernel.ProbeTun()} {
		var e *cnierr.Error
		if !errors.As(err, &e) || e.Code != cnierr.IO || !strings.Contains(e.Details, "modprobe tun") {
			t.Errorf("error is %v, want code %d and what to do", err, cnierr.IO)
		}
	}
}

func TestNoSELinux(t *testing.T) {
	k := newKernel(t)
	_, err := k.Create(linkspec.Link{Kind: linkspec.Tap, Name: "tap0", Context: "system_u:system_r:svirt_t:s0"})
	var e *cnierr.Error
	if !errors.As(err, &e) || e.Code != cnierr.Config || e.Details == "" {
		t.Errorf("error is %v, want code %d and what to do", err, cnierr.Config)
	}
	if _, err := k.Link("tap0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tap: error %v", err)
	}
}

// The program that makes a tap in another SELinux context is this one, under
// another name: it attaches file 3 to a new tap, and to no other.
func TestAttachProgram(t *testing.T) {
	k := newKernel(t)
	attach := func(name, multiQueue string) (status int, tun *os.File) {
		t.Helper()
		tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		must(t, err)
		t.Cleanup(func() { tun.Close() })
		program := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"microvm-cni-attach", name, multiQueue}, ExtraFiles: []*os.File{tun}}
		err = program.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return program.ProcessState.ExitCode(), tun
	}
	for i, multiQueue := range []string{"false", "true"} {
		name := fmt.Sprintf("tap%d", i)
		status, tun := attach(name, multiQueue)
		if l := look(t, k, name); status != 0 || l.Kind != linkspec.Tap || *l.MultiQueue != (multiQueue == "true") {
			t.Errorf("status %d, link is\n%v", status, l)
		}
		if status, _ := attach(name, multiQueue); status != 64+int(syscall.EBUSY) {
			t.Errorf("a second time: status %d", status)
		}
		must(t, tun.Close())
		if _, err := k.Link(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("tap outlives its file: error %v", err)
		}
	}
}
