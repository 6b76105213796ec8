package kernel

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
	"github.com/microvm-cni/microvm-cni/pkg/reconcile"
)

var _ reconcile.Kernel = (*Kernel)(nil)

// peer is a kernel that answers each request with the next of its replies, each
// of one or more datagrams.
func peer(t *testing.T, replies ...[]*message) *conn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{fd: fds[0], buf: make([]byte, receiveBuffer)}
	done := make(chan error, 1)
	go func() { done <- errors.Join(answer(fds[1], replies), unix.Close(fds[1])) }()
	t.Cleanup(func() {
		if err := errors.Join(c.close(), <-done); err != nil {
			t.Error(err)
		}
	})
	return c
}

func answer(fd int, replies [][]*message) error {
	b := make([]byte, receiveBuffer)
	for _, reply := range replies {
		n, err := unix.Read(fd, b)
		if err != nil || n == 0 {
			return err
		}
		seq := native.Uint32(b[8:])
		for _, m := range reply {
			if _, err := unix.Write(fd, m.seal(seq+native.Uint32(m.b[8:]))); err != nil {
				return err
			}
		}
	}
	return nil
}

// late makes a message one that answers another request, by that much.
func late(m *message, by int32) *message {
	native.PutUint32(m.b[8:], uint32(by))
	return m
}

func ack(errno unix.Errno) *message {
	return newMessage(unix.NLMSG_ERROR, 0, errorNumber(errno)...)
}

func errorNumber(errno unix.Errno) []byte {
	return native.AppendUint32(nil, uint32(-int32(errno)))
}

func linkMessage(flags uint16, index int, name string) *message {
	return newMessage(unix.RTM_NEWLINK, flags, ifinfo(unix.AF_UNSPEC, index, 0, 0)...).text(unix.IFLA_IFNAME, name)
}

func endOfDump(flags uint16) *message {
	return newMessage(unix.NLMSG_DONE, unix.NLM_F_MULTI|flags, 0, 0, 0, 0)
}

func getLinks(c *conn) ([]string, error) {
	payloads, err := c.dump(newMessage(unix.RTM_GETLINK, 0, ifinfo(unix.AF_UNSPEC, 0, 0, 0)...), unix.RTM_NEWLINK)
	var names []string
	for _, p := range payloads {
		names = append(names, decodeLink(p).link.Name)
	}
	return names, err
}

func TestDumpStartsAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		first []*message
	}{
		{"the links changed between datagrams", []*message{linkMessage(unix.NLM_F_MULTI, 1, "lo"), linkMessage(unix.NLM_F_MULTI|unix.NLM_F_DUMP_INTR, 3, "tap1"), endOfDump(0)}},
		{"the links changed at the end", []*message{linkMessage(unix.NLM_F_MULTI, 1, "lo"), endOfDump(unix.NLM_F_DUMP_INTR)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := []*message{linkMessage(unix.NLM_F_MULTI, 1, "lo"), linkMessage(unix.NLM_F_MULTI, 2, "tap0"), endOfDump(0)}
			names, err := getLinks(peer(t, c.first, whole))
			if err != nil || !slices.Equal(names, []string{"lo", "tap0"}) {
				t.Errorf("links %q, error %v", names, err)
			}
		})
	}
}

func TestDumpGivesUp(t *testing.T) {
	replies := make([][]*message, dumpAttempts)
	for i := range replies {
		replies[i] = []*message{linkMessage(unix.NLM_F_MULTI, 1, "lo"), endOfDump(unix.NLM_F_DUMP_INTR)}
	}
	names, err := getLinks(peer(t, replies...))
	var e *cnierr.Error
	if !errors.As(err, &e) || e.Code != cnierr.TryAgain || names != nil {
		t.Errorf("links %q, error %v", names, err)
	}
}

func TestDumpFails(t *testing.T) {
	errno := newMessage(unix.NLMSG_DONE, unix.NLM_F_MULTI, errorNumber(unix.ENODEV)...)
	if _, err := getLinks(peer(t, []*message{errno})); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestReplyToAnotherRequest(t *testing.T) {
	c := peer(t, []*message{late(ack(unix.EPERM), -1), late(linkMessage(0, 7, "tap7"), -1), linkMessage(0, 1, "lo")})
	reply, err := c.get(getLink("lo"))
	if err != nil || decodeLink(reply).link.Name != "lo" {
		t.Errorf("reply %q, error %v", reply, err)
	}
}

func TestDoAllTellsErrorsApart(t *testing.T) {
	c := peer(t, []*message{late(ack(0), 0), late(ack(unix.ENODEV), 1), late(ack(0), 2)})
	var requests []*message
	for range 3 {
		requests = append(requests, setLink(1, 0, 0))
	}
	errs := c.doAll(requests...)
	if errs[0] != nil || !errors.Is(errs[1], unix.ENODEV) || errs[2] != nil {
		t.Errorf("errors are %v", errs)
	}
}

func TestReason(t *testing.T) {
	m := ack(unix.EINVAL)
	native.PutUint16(m.b[6:], unix.NLM_F_ACK_TLVS)
	m.b = append(m.b, make([]byte, unix.SizeofNlMsghdr)...) // the request's header
	m.text(unix.NLMSGERR_ATTR_MSG, "too short a name")
	err := peer(t, []*message{m}).do(setLink(1, 0, 0))
	if !errors.Is(err, unix.EINVAL) || err.Error() != "invalid argument (too short a name)" {
		t.Errorf("error is %v", err)
	}
}

func TestMessageCutShort(t *testing.T) {
	for _, length := range []uint32{0, 15, 17, 1 << 31} {
		b := make([]byte, 16)
		native.PutUint32(b, length)
		if _, _, _, err := cutMessage(b); err == nil {
			t.Errorf("length %d: no error", length)
		}
	}
}

// A multi-queue tap that somebody attached to before it had an owner is not
// handed out.
func TestIntruder(t *testing.T) {
	for _, c := range []struct {
		attached, detached uint32
		good               bool
	}{{1, 0, true}, {2, 0, false}, {1, 1, false}} {
		m := linkMessage(0, 5, "tap0")
		m.nest(unix.IFLA_LINKINFO, func() {
			m.text(unix.IFLA_INFO_KIND, "tun")
			m.nest(unix.IFLA_INFO_DATA, func() {
				m.attr(unix.IFLA_TUN_TYPE, []byte{tunTypeTap})
				m.u32(unix.IFLA_TUN_NUM_QUEUES, c.attached)
				m.u32(unix.IFLA_TUN_NUM_DISABLED_QUEUES, c.detached)
			})
		})
		err := (&Kernel{conn: peer(t, []*message{m})}).checkQueues("tap0")
		if (err == nil) != c.good {
			t.Errorf("%d attached, %d detached: error %v", c.attached, c.detached, err)
		}
	}
}

// A TUN device is no tap: no bridge takes it.
func TestTunIsNoTap(t *testing.T) {
	m := linkMessage(0, 5, "tun0")
	m.nest(unix.IFLA_LINKINFO, func() {
		m.text(unix.IFLA_INFO_KIND, "tun")
		m.nest(unix.IFLA_INFO_DATA, func() { m.attr(unix.IFLA_TUN_TYPE, []byte{1}) })
	})
	l := decodeLink(m.b[unix.SizeofNlMsghdr:]).link
	if l.Kind == linkspec.Tap || l.Owner != nil {
		t.Errorf("link is\n%v", l)
	}
}

// No message, however broken, makes a decoder panic or read past its end.
func FuzzDecode(f *testing.F) {
	whole := linkMessage(0, 5, "tap0").u32(unix.IFLA_MTU, 1500)
	whole.nest(unix.IFLA_PROP_LIST, func() { whole.text(unix.IFLA_ALT_IFNAME, strings.Repeat("a", 100)) })
	f.Add(whole.b[unix.SizeofNlMsghdr:])                                                  // a whole message
	f.Add(whole.b[unix.SizeofNlMsghdr : len(whole.b)-3])                                  // its last attribute cut short
	f.Add(append(ifinfo(0, 1, 0, 0), 4, 0, 18, 0x80))                                     // IFLA_LINKINFO, empty
	f.Add(append(ifinfo(0, 1, 0, 0), 3, 0, 3, 0))                                         // a length below that of the header
	f.Add(append(ifinfo(0, 1, 0, 0), 5, 0, 4, 0, 1, 0, 0, 0, 5, 0, 10, 0, 1, 0, 0, 0))    // numbers of one byte
	f.Add(append([]byte{unix.AF_INET, 200, 0, 0, 1, 0, 0, 0}, 7, 0, 2, 0, 10, 0, 0, 1))   // an address of three bytes, a prefix of 200 bits
	f.Add(append(ifinfo(0, 1, 0, 0), 12, 0, 26, 0x80, 8, 0, 10, 0x80, 4, 0, 2, 0))        // IFLA_INET6_CONF, empty
	f.Add(append(ifinfo(0, 1, 0, 0), 8, 0, 52, 0x80, 4, 0, 53, 0, 255, 255, 255, 255, 0)) // an empty name, and rubbish
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = decodeLink(b).link.String()
		if a, ok := decodeAddress(b); ok {
			_ = a.Prefix.String()
		}
		_, _, rest, err := cutMessage(b)
		if err == nil && len(rest) >= len(b) {
			panic("no progress")
		}
	})
}

// The device below a VLAN device that was moved is in another namespace, whatever
// has its index in this one.
func TestDeviceBelowIsElsewhere(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		m := newMessage(unix.RTM_NEWLINK, 0, ifinfo(unix.AF_UNSPEC, 7, 0, 0)...).u32(unix.IFLA_LINK, 77)
		want := 77
		if elsewhere {
			m.u32(unix.IFLA_LINK_NETNSID, 0)
			want = 0
		}
		if got := decodeLink(m.b[unix.SizeofNlMsghdr:]).below; got != want {
			t.Errorf("elsewhere %v: the device below is %d, want %d", elsewhere, got, want)
		}
	}
}
