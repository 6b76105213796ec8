//go:build linux

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	hostFile := filepath.Join(t.TempDir(), "greeting")
	if err := os.WriteFile(hostFile, []byte("hello from the host\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	vm := Boot(t, Config{
		Script: "echo prepared >/tmp/state\necho 'the script was here'\n",
		Files:  map[string]string{"/opt/deep/greeting": hostFile},
	})

	long := strings.Repeat("x", 10000) // more than a terminal takes as one line
	for _, test := range []struct {
		command, output string
		status          int
	}{
		{"echo hello", "hello\n", 0},
		{"true", "", 0},
		{"exit 7", "", 7},
		{"echo out; echo err >&2; false", "out\nerr\n", 1},
		{"printf 'no newline'", "no newline", 0},
		{`printf '\000\377\n'`, "\x00\xff\n", 0},
		{"cat /tmp/state", "prepared\n", 0},
		{"cat /opt/deep/greeting", "hello from the host\n", 0},
		{"stat -c %a /opt/deep/greeting", "640\n", 0},
		{"echo " + long, long + "\n", 0},
		{"head -c 100000 /dev/zero | wc -c", "100000\n", 0},
		{"ls /sys/class/net", "lo\n", 0},
		{"ping -c 1 127.0.0.1 >/dev/null && ping -6 -c 1 ::1 >/dev/null", "", 0},
		{"cat", "", 0}, // stdin is empty, not the protocol
	} {
		output, status := vm.Run(test.command)
		if output != test.output || status != test.status {
			t.Errorf("%.60q: got %.200q with status %d, want %.200q with status %d",
				test.command, output, status, test.output, test.status)
		}
	}
	if !strings.Contains(vm.Console(), "the script was here") {
		t.Errorf("the console lacks the script's output:\n%s", vm.Console())
	}

	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(vm.PID()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"CapEff:\t0000000000000000", "Uid:\t65534\t65534\t65534\t65534", "Groups:\t \n"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("QEMU's status lacks %q:\n%s", line, status)
		}
	}

	vm.MustRun("(sleep 1; poweroff -f) &") // later, or the answer might not get out
	if err := vm.Wait(); err != nil {
		t.Errorf("wait after power-off: %v", err)
	}
	vm.Close()
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"script", Config{Script: "echo cause >&2; exit 3"}, []string{"ready 3", "cause"}},
		{"tap", Config{NICs: []NIC{{Tap: "nosuchtap", MAC: "02:00:00:00:00:01"}}}, []string{"nosuchtap", "Operation not permitted"}},
		{"namespace", Config{Netns: "/nonexistent"}, []string{"/nonexistent", "no such file"}},
		{"address", Config{NICs: []NIC{{Tap: "tap0", MAC: "none"}}}, []string{"NIC 0", "none"}},
		{"name", Config{NICs: []NIC{{Tap: "a,b", MAC: "02:00:00:00:00:01"}}}, []string{"NIC 0", "a,b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			vm, err := Start(t, test.config)
			if err == nil {
				vm.Close()
				t.Fatal("started")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
}

const qemuUser = 61234 // a user that nobody is

// TestNetwork boots two guests on a bridge, one with two NICs, one of them with two queues.
func TestNetwork(t *testing.T) {
	netns := newNetns(t)
	ip(t, netns, "link add br0 type bridge")
	ip(t, netns, "address add 10.0.0.1/24 dev br0")
	ip(t, netns, "link set br0 up")
	for _, tap := range []string{"tap0", "tap1 multi_queue", "tap2"} {
		ip(t, netns, fmt.Sprintf("tuntap add mode tap vnet_hdr user %d name %s", qemuUser, tap))
		ip(t, netns, "link set "+tap[:4]+" master br0 up")
	}
	// The second address is the lower one: order is what the config says, not what the bus does.
	a := Boot(t, Config{UID: qemuUser, GID: qemuUser, Netns: netns, NICs: []NIC{
		{Tap: "tap0", MAC: "02:00:00:00:00:0B"},
		{Tap: "tap1", MAC: "02:00:00:00:00:0A", Queues: 2},
	}})
	b := Boot(t, Config{UID: qemuUser, GID: qemuUser, Netns: netns, NICs: []NIC{{Tap: "tap2", MAC: "02:00:00:00:00:0c"}}})

	for device, want := range map[string]string{"eth0": "02:00:00:00:00:0b", "eth1": "02:00:00:00:00:0a"} {
		if got := strings.TrimSpace(a.MustRun("cat /sys/class/net/" + device + "/address")); got != want {
			t.Errorf("%s has address %s, want %s", device, got, want)
		}
	}
	if got := strings.TrimSpace(a.MustRun("ls -d /sys/class/net/eth1/queues/rx-* | wc -l")); got != "2" {
		t.Errorf("eth1 has %s queues, want 2", got)
	}
	b.MustRun("ip link set eth0 up && ip address add 10.0.0.4/24 dev eth0")
	a.MustRun("ip link set eth0 up && ip address add 10.0.0.2/24 dev eth0")
	a.MustRun("ping -c 2 -i 0.1 -W 5 10.0.0.1 && ping -c 2 -i 0.1 -W 5 10.0.0.4")
	a.MustRun("ip link set eth0 down && ip link set eth1 up && ip address add 10.0.0.3/24 dev eth1")
	for cpu := range 2 { // the driver sends through the queue of the CPU that it runs on
		a.MustRun(fmt.Sprintf("taskset %d ping -c 2 -i 0.1 -W 5 10.0.0.4", 1<<cpu))
	}
}

// TestOwner shows that QEMU has no privilege that would let it open a tap of somebody else.
func TestOwner(t *testing.T) {
	netns := newNetns(t)
	ip(t, netns, fmt.Sprintf("tuntap add mode tap vnet_hdr user %d name tap0", qemuUser))
	config := Config{UID: qemuUser + 1, Netns: netns, NICs: []NIC{{Tap: "tap0", MAC: "02:00:00:00:00:01"}}}
	vm, err := Start(t, config)
	if err == nil {
		vm.Close()
		t.Fatalf("uid %d opened the tap of uid %d", config.UID, qemuUser)
	}
	if !strings.Contains(err.Error(), "tap0") || !strings.Contains(err.Error(), "Operation not permitted") {
		t.Errorf("start as another user: %v, want EPERM for tap0", err)
	}
}

// newNetns makes a network namespace that ends with the test, and returns its path.
func newNetns(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("guest-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "delete", name) })
	return "/run/netns/" + name
}

func ip(t *testing.T, netns, command string) {
	t.Helper()
	run(t, "ip", append([]string{"-n", filepath.Base(netns)}, strings.Fields(command)...)...)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("run %s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
}
