//go:build linux

// Package guest boots real microVMs for tests.
//
// A guest is a QEMU process of machine type microvm, in software emulation so that it behaves the
// same on every machine, with a Debian kernel and the initramfs that scripts/prepare puts into
// .cache. QEMU runs as an unprivileged user without any capability: it can attach to a tap only if
// that tap was made for this user.
//
//	vm := guest.Boot(t, guest.Config{
//		UID:   1234,
//		Netns: "/run/netns/host",
//		NICs:  []guest.NIC{{Tap: "tap0", MAC: "02:00:00:00:00:01"}},
//	})
//	vm.MustRun("ip link set eth0 up && ip address add 10.0.0.2/24 dev eth0")
//	out, status := vm.Run("ping -c 1 10.0.0.1")
//
// Nothing here sleeps and nothing here skips: what a guest needs and the machine does not have is
// fatal to the test.
package guest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Generous, because an emulated CPU shares two cores with everything else on a CI machine. A guest
// is usually up after 1.5 seconds.
var (
	bootTimeout  = patience(time.Minute)
	runTimeout   = patience(time.Minute)
	closeTimeout = patience(10 * time.Second)
)

// Nobody is the user and group that QEMU runs as unless Config says otherwise.
const Nobody = 65534

// NIC is one network device of the guest. The first of Config.NICs is eth0 in the guest, the second
// eth1, and so on, all of them down and without an address.
type NIC struct {
	Tap    string // name of the tap in Config.Netns; it must exist
	MAC    string // the guest's address
	Queues int    // queue pairs; more than one needs a tap made with IFF_MULTI_QUEUE, default 1
}

// Config says what to boot. Its zero value is a guest without network.
type Config struct {
	NICs     []NIC
	UID, GID uint32            // user and group of QEMU, default Nobody; it has no other groups
	Netns    string            // path of the network namespace that QEMU runs in, default the test's
	MemoryMB int               // default 128
	CPUs     int               // default the largest number of queues
	Script   string            // shell script that runs in the guest before Boot returns
	Files    map[string]string // extra files: path in the guest to path on the host; modes are kept

	Arguments  []string // more of QEMU's, for devices that are described elsewhere than in NICs
	KernelLine string   // more of the kernel's command line
}

// Guest is a running microVM. Its methods may be used by several goroutines, one command at a time.
type Guest struct {
	t       testing.TB
	console *consoleLog
	channel net.Conn    // the guest's second serial port
	answers chan string // what came out of it, by lines; closed at its end
	process *os.Process
	exited  chan struct{}
	exitErr error // QEMU's, valid once exited is closed

	turn sync.Mutex // held by the command that is running
	last int        // id of the last command
	end  sync.Once
}

// Boot boots a guest and returns when it is ready for commands: devices there, Config.Script done
// with status 0. It ends the test if that fails. The guest is closed when the test ends.
func Boot(t testing.TB, config Config) *Guest {
	t.Helper()
	g, err := Start(t, config)
	if err != nil {
		t.Fatalf("boot guest: %v", err)
	}
	return g
}

// Start is Boot for tests that expect it to fail, of a QEMU that is not allowed to open its tap for
// instance. The error holds what QEMU and the guest's console said. What is missing on the machine,
// and has nothing to do with the guest, is fatal all the same.
func Start(t testing.TB, config Config) (*Guest, error) {
	t.Helper()
	parts := requireParts(t)
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	g := &Guest{t: t, console: &consoleLog{}, answers: make(chan string, 16), exited: make(chan struct{})}
	if err = g.launch(parts, config); err != nil {
		return nil, err
	}
	t.Cleanup(g.Close)
	go g.listen()

	ready, err := g.answer(bootTimeout)
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("wait for the guest: %w", err)
	}
	if ready != "ready 0" {
		g.Close()
		return nil, fmt.Errorf("run the script in the guest: it answered %q\n%s", ready, g.console.tail())
	}
	return g, nil
}

// Run runs a shell command in the guest, as root, and returns its output (stdout and stderr) and
// its exit status. It ends the test if the guest does not answer.
func (g *Guest) Run(command string) (output string, status int) {
	g.t.Helper()
	output, status, err := g.run(command)
	if err != nil {
		g.t.Fatalf("run %q in the guest: %v", command, err)
	}
	return output, status
}

// MustRun is Run for a command whose failure ends the test.
func (g *Guest) MustRun(command string) string {
	g.t.Helper()
	output, status := g.Run(command)
	if status != 0 {
		g.t.Fatalf("run %q in the guest: exit status %d\n%s", command, status, output)
	}
	return output
}

// Console returns what the guest's console and QEMU itself have said so far.
func (g *Guest) Console() string { return g.console.String() }

// PID returns the process id of QEMU.
func (g *Guest) PID() int { return g.process.Pid }

// Wait waits for the guest to end by itself, and ends the test if it does not within a minute.
// It returns QEMU's exit error: nil after a power-off.
func (g *Guest) Wait() error {
	g.t.Helper()
	select {
	case <-g.exited:
		return g.exitErr
	case <-time.After(runTimeout):
		g.t.Fatalf("wait for the guest: still running after %v\n%s", runTimeout, g.console.tail())
		return nil
	}
}

// Close powers the guest off, or kills it when it does not obey, and waits for QEMU to be gone: its
// taps are free when Close returns. Closing twice is harmless.
func (g *Guest) Close() {
	g.end.Do(func() {
		defer g.channel.Close()
		select {
		case <-g.exited:
			return
		default:
		}
		if _, err := g.channel.Write([]byte("off\n")); err == nil {
			select {
			case <-g.exited:
				return
			case <-time.After(closeTimeout):
			}
		}
		// The process is waited for by its own thread only: its id cannot have been reused.
		_ = g.process.Kill()
		<-g.exited
	})
}

// run does one round of the protocol that scripts/guest/init describes.
func (g *Guest) run(command string) (output string, status int, err error) {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.last++
	id := strconv.Itoa(g.last)
	line := id + " " + base64.StdEncoding.EncodeToString([]byte(command)) + "\n"
	if _, err = g.channel.Write([]byte(line)); err != nil {
		return "", 0, fmt.Errorf("send command: %w\n%s", err, g.console.tail())
	}
	answer, err := g.answer(runTimeout)
	if err != nil {
		return "", 0, err
	}
	fields := strings.Split(answer, " ")
	if len(fields) != 3 || fields[0] != id {
		return "", 0, fmt.Errorf("read answer: %q is none to command %s", answer, id)
	}
	status, err = strconv.Atoi(fields[1])
	if err != nil {
		return "", 0, fmt.Errorf("read exit status: %w", err)
	}
	decoded, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil {
		return "", 0, fmt.Errorf("read output: %w", err)
	}
	return string(decoded), status, nil
}

// answer returns the next line from the guest. Its error ends with the console log.
func (g *Guest) answer(timeout time.Duration) (string, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case line, ok := <-g.answers:
		if ok {
			return line, nil
		}
		<-g.exited // then QEMU has said all that it had to say
		if g.exitErr == nil {
			return "", fmt.Errorf("the guest powered off\n%s", g.console.tail())
		}
		return "", fmt.Errorf("qemu: %w\n%s", g.exitErr, g.console.tail())
	case <-timer.C:
		return "", fmt.Errorf("no answer within %v\n%s", timeout, g.console.tail())
	}
}

// listen turns the guest's second serial port into lines, until QEMU is gone.
func (g *Guest) listen() {
	defer close(g.answers)
	reader := bufio.NewReader(g.channel)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		g.answers <- strings.TrimSuffix(line, "\n")
	}
}

// complete fills in the defaults and refuses what QEMU would misread.
func (c Config) complete() (Config, error) {
	if c.UID == 0 {
		c.UID = Nobody
	}
	if c.GID == 0 {
		c.GID = Nobody
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = 128
	}
	cpus := 1
	nics := make([]NIC, len(c.NICs))
	for i, nic := range c.NICs {
		mac, err := net.ParseMAC(nic.MAC)
		if err != nil {
			return c, fmt.Errorf("read address of NIC %d: %w", i, err)
		}
		if nic.Tap == "" || strings.ContainsAny(nic.Tap, ",=") {
			return c, fmt.Errorf("read tap of NIC %d: %q is no name", i, nic.Tap)
		}
		nics[i] = NIC{Tap: nic.Tap, MAC: mac.String(), Queues: max(nic.Queues, 1)}
		cpus = max(cpus, nics[i].Queues) // the driver uses no more queues than it has CPUs
	}
	c.NICs = nics
	if c.CPUs == 0 {
		c.CPUs = cpus
	}
	return c, nil
}

// consoleLog collects what QEMU writes. Its zero value is ready.
type consoleLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *consoleLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *consoleLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// tail returns the end of the log, fit for an error.
func (l *consoleLog) tail() string {
	const most = 4096
	text := strings.TrimSpace(l.String())
	if text == "" {
		return "(the console is empty)"
	}
	if len(text) > most {
		text = "..." + text[len(text)-most:]
	}
	return "the console says:\n" + text
}

const remedy = "run `scripts/prepare test` to get it"

// parts are the files that every guest is made of.
type parts struct{ qemu, kernel, initrd string }

func requireParts(t testing.TB) parts {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("boot guest: only root can run QEMU as another user and enter a network namespace: run the tests as root")
	}
	root, err := repositoryRoot()
	if err != nil {
		t.Fatalf("find the repository: %v", err)
	}
	p := parts{kernel: root + "/.cache/kernel/vmlinuz", initrd: root + "/.cache/initrd"}
	for _, file := range []string{p.kernel, p.initrd} {
		if _, err = os.Stat(file); err != nil {
			t.Fatalf("find guest kernel and initramfs: %v: %s", err, remedy)
		}
	}
	p.qemu, err = exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatalf("find QEMU: %v: %s", err, remedy)
	}
	return p
}
