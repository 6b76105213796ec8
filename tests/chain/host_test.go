package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/microvm-cni/microvm-cni/tests/sandbox"
)

const (
	cniDir    = "/var/lib/cni" // where libcni and host-local keep their files
	leaseDir  = cniDir + "/networks"
	pluginDir = "/var/lib/plugins" // CNI_PATH of a host, beside bin: fakes
)

// host is a machine of its own.
type host struct {
	*sandbox.Host
	t      *testing.T
	mine   []string // links that the test itself made
	guests string   // path of the network namespace that VMs without one share
}

// newHost makes a host, and checks at the end of the test that nothing is left
// on it. Hosts do not meet, so the test runs beside others.
func newHost(t *testing.T) *host {
	t.Helper()
	t.Parallel()
	return newQuietHost(t)
}

// newQuietHost is newHost for a test that has the machine to itself.
func newQuietHost(t *testing.T) *host {
	t.Helper()
	h := &host{Host: sandbox.NewHost(t, sandbox.Parallel, sandbox.LinksMayStay), t: t}
	t.Cleanup(h.leaks)
	h.guests = h.NewNetns("guests")
	if err := h.do(func() error { return os.Mkdir(pluginDir, 0o755) }); err != nil {
		t.Fatal(err)
	}
	return h
}

// do runs f on the host: processes that it starts and files that it opens are
// the host's.
func (h *host) do(f func() error) (err error) {
	h.t.Helper()
	h.Do(func() { err = f() })
	return err
}

// sh runs a shell script on the host and returns what it prints.
func (h *host) sh(script string) string {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	err := h.do(func() error {
		cmd := exec.Command("sh", "-ec", script)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		return cmd.Run()
	})
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", script, err, stderr.Bytes())
	}
	return stdout.String()
}

// bridge makes a bridge as a network manager would, and leaves it up. It has no
// link-local address, which would come when the kernel sees fit.
func (h *host) bridge(name, options string) {
	h.t.Helper()
	h.sh("ip link add " + name + " " + options + " type bridge && ip link set " + name + " addrgenmode none up")
	h.mine = append(h.mine, name)
}

// tap makes a tap as another plugin would.
func (h *host) tap(name string) {
	h.t.Helper()
	h.sh("ip tuntap add " + name + " mode tap")
	h.mine = append(h.mine, name)
}

// link is what `ip -d address show` tells of a device.
type link struct {
	Name      string   `json:"ifname"`
	AltNames  []string `json:"altnames"`
	Flags     []string `json:"flags"`
	MTU       int      `json:"mtu"`
	TxQueue   int      `json:"txqlen"`
	Master    string   `json:"master"`
	Group     string   `json:"group"`
	MAC       string   `json:"address"`
	Alias     string   `json:"ifalias"`
	Promisc   int      `json:"promiscuity"`
	Addresses []struct {
		Local string `json:"local"`
		Bits  int    `json:"prefixlen"`
		Scope string `json:"scope"`
	} `json:"addr_info"`
	Info struct {
		Kind string `json:"info_kind"`
		Data struct {
			Type       string          `json:"type"`
			User       json.RawMessage `json:"user"`
			Group      json.RawMessage `json:"group"`
			MultiQueue bool            `json:"multi_queue"`
			Persist    bool            `json:"persist"`
			VnetHdr    bool            `json:"vnet_hdr"`
		} `json:"info_data"`
		Port struct {
			Hairpin  bool `json:"hairpin"`
			Isolated bool `json:"isolated"`
		} `json:"info_slave_data"`
	} `json:"linkinfo"`
}

func (l *link) up() bool { return slices.Contains(l.Flags, "UP") }

// has tells whether the link has the address, with its prefix length.
func (l *link) has(prefix string) bool {
	for _, a := range l.Addresses {
		if a.Local+"/"+strconv.Itoa(a.Bits) == prefix {
			return true
		}
	}
	return false
}

// links returns all links of the host but lo.
func (h *host) links() []*link {
	h.t.Helper()
	return h.linksBy("ip")
}

// linksBy returns all links but lo that a command of ip tells of.
func (h *host) linksBy(ip string) []*link {
	h.t.Helper()
	var all []*link
	if err := json.Unmarshal([]byte(h.sh(ip+" -j -d address show")), &all); err != nil {
		h.t.Fatalf("ip address show: %v", err)
	}
	return slices.DeleteFunc(all, func(l *link) bool { return l.Name == "lo" || l.Name == "" })
}

// link returns the link of that name, nil if there is none.
func (h *host) link(name string) *link {
	h.t.Helper()
	for _, l := range h.links() {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// made returns the names of the links that the plugins made.
func (h *host) made() []string {
	h.t.Helper()
	var names []string
	for _, l := range h.links() {
		if !slices.Contains(h.mine, l.Name) {
			names = append(names, l.Name)
		}
	}
	return names
}

// leases returns the addresses that host-local holds on the network.
func (h *host) leases(network string) []string {
	h.t.Helper()
	var held []string
	err := h.do(func() error {
		files, err := os.ReadDir(filepath.Join(leaseDir, network))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, f := range files {
			if f.Name() != "lock" && !strings.HasPrefix(f.Name(), "last_reserved_ip") {
				held = append(held, f.Name())
			}
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return held
}

// empty fails the test if the plugins left a link or a lease.
func (h *host) empty() {
	h.t.Helper()
	for _, l := range h.links() {
		if !slices.Contains(h.mine, l.Name) {
			h.t.Errorf("left behind: link %s", l.Name)
		}
		if l.Master != "" {
			h.t.Errorf("left behind: %s is a port of %s", l.Name, l.Master)
		}
		for _, alt := range l.AltNames {
			h.t.Errorf("left behind: name %s on %s", alt, l.Name)
		}
	}
	for _, l := range h.inside() {
		h.t.Errorf("left behind: link %s in the VMM's namespace", l.Name)
	}
	for _, network := range h.leaseFolders() {
		for _, lease := range h.leases(network) {
			h.t.Errorf("left behind: lease of %s on network %s", lease, network)
		}
	}
}

func (h *host) leaseFolders() []string {
	h.t.Helper()
	return strings.Fields(h.sh("ls " + leaseDir + " 2>/dev/null || true"))
}

// leaks is empty, and sees to it that no process is left either.
func (h *host) leaks() {
	h.t.Helper()
	h.empty()
	for _, pid := range h.processes() {
		comm, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
		h.t.Errorf("left behind: process %s %s", pid, comm)
	}
}

// processes are the pids of what runs on the host.
func (h *host) processes() (pids []string) {
	h.t.Helper()
	var own os.FileInfo
	err := h.do(func() (err error) {
		own, err = os.Stat(h.Path())
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, path := range procs {
		if ns, err := os.Stat(path); err == nil && os.SameFile(own, ns) {
			pids = append(pids, strings.Split(path, "/")[2])
		}
	}
	return pids
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fleeting is what the kernel counts, or brings about later, on its own: timers,
// carrier, which routes and ports tell of too, and offload sizes, which follow the ports,
// the qdisc of a device that was up once, and link-local addresses.
var fleeting = regexp.MustCompile(`\n +inet6 fe80:.*\n.*|_timer +[0-9.]+| qdisc [a-z_]+|[tg][sr]o_max_[a-z]+ [0-9]+|NO-CARRIER,|,LOWER_UP| state [A-Za-z]+| linkdown`)

// snapshot is what a shell script prints of the host, to be held against what
// it prints later.
func (h *host) snapshot(script string) snapshot {
	h.t.Helper()
	return snapshot{h, script, fleeting.ReplaceAllString(h.sh(script), "")}
}

type snapshot struct {
	h            *host
	script, text string
}

// same fails the test if the host is not as it was.
func (s snapshot) same(t *testing.T) bool {
	t.Helper()
	now := s.h.snapshot(s.script).text
	if now == s.text {
		return true
	}
	t.Errorf("the host was:\n%s\nand is:\n%s", without(s.text, now), without(now, s.text))
	return false
}

// without is a less the lines of b.
func without(a, b string) string {
	there := strings.Split(b, "\n")
	left := slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool { return slices.Contains(there, line) })
	return strings.Join(left, "\n")
}
