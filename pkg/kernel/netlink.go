package kernel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

const (
	// receiveBuffer takes the longest datagram of a dump: the kernel makes them
	// as long as the buffer that it last saw, up to 32 KiB.
	receiveBuffer = 32 << 10

	// replyTimeout, in seconds, only keeps a lost reply from hanging a verb: the
	// kernel answers before the call that sends the request returns.
	replyTimeout = 10

	// dumpAttempts bounds how often an interrupted dump is made again. A dump of
	// 1000 links takes 14 ms, in which a busy host changes some most of the time.
	dumpAttempts = 50
)

// errInterrupted says that links changed while they were being listed, so that
// some may be missing from the list.
var errInterrupted = errors.New("links changed while they were listed")

// refusal is an error number of the kernel, with the reason that it gave.
type refusal struct {
	errno  unix.Errno
	reason string
}

func (r *refusal) Error() string {
	if r.reason == "" {
		return r.errno.Error()
	}
	return r.errno.Error() + " (" + r.reason + ")"
}

func (r *refusal) Unwrap() error { return r.errno }

// Is makes "no such device" one of the errors that say that a thing is missing.
func (r *refusal) Is(target error) bool {
	return target == fs.ErrNotExist && r.errno == unix.ENODEV
}

// conn is a route netlink socket, bound for life to the network namespace of
// the thread that opened it.
type conn struct {
	mu  sync.Mutex // held from a request to the end of its reply
	fd  int
	seq uint32
	buf []byte
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, receiveBuffer)}
	if err := c.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("configure netlink socket: %w", err), c.close())
	}
	return c, nil
}

// configure turns on filters in dumps, reasons in errors, and takes messages
// from nobody but the kernel.
func (c *conn) configure() error {
	for _, option := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, option, 1); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: replyTimeout}); err != nil {
		return err
	}
	return unix.Connect(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func (c *conn) close() error { return unix.Close(c.fd) }

// do sends a request and waits until it was carried out.
func (c *conn) do(m *message) error {
	return c.doAll(m)[0]
}

// doAll sends requests in one system call, and returns the error of each. The
// kernel carries all of them out, in order, whatever becomes of the others,
// before it looks at a signal.
func (c *conn) doAll(ms ...*message) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(ms))
	var b []byte
	first := c.seq + 1
	for _, m := range ms {
		native.PutUint16(m.b[6:], native.Uint16(m.b[6:])|unix.NLM_F_ACK)
		c.seq++
		b = append(b, m.seal(c.seq)...)
	}
	if err := c.send(b); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	for i := range ms {
		errs[i] = c.receive(first+uint32(i), func(uint16, []byte) bool { return true })
	}
	return errs
}

// get sends a request and returns the payload of the one message that answers it.
func (c *conn) get(m *message) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	if err := c.send(m.seal(c.seq)); err != nil {
		return nil, err
	}
	var reply []byte
	err := c.receive(c.seq, func(_ uint16, payload []byte) bool { reply = append([]byte{}, payload...); return true })
	return reply, err
}

// dump sends a request for a list and returns the payloads of the messages of
// that type. It starts again when the list changed meanwhile.
func (c *conn) dump(m *message, typ uint16) ([][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	native.PutUint16(m.b[6:], native.Uint16(m.b[6:])|unix.NLM_F_DUMP)
	for range dumpAttempts {
		list, err := c.dumpOnce(m, typ)
		if !errors.Is(err, errInterrupted) {
			return list, err
		}
	}
	return nil, cnierr.New(cnierr.TryAgain, "the host is making or deleting links all the time: try again when it is calmer",
		"%w each of %d times", errInterrupted, dumpAttempts)
}

func (c *conn) dumpOnce(m *message, typ uint16) ([][]byte, error) {
	c.seq++
	if err := c.send(m.seal(c.seq)); err != nil {
		return nil, err
	}
	var list [][]byte
	err := c.receive(c.seq, func(t uint16, payload []byte) bool {
		if t == typ {
			list = append(list, append([]byte(nil), payload...))
		}
		return true
	})
	return list, err
}

// find sends a request for a list, and reads it until ok takes one of its messages
// of that type. The socket is good for nothing after that: the kernel makes the
// list as it is read, and the rest is not.
func (c *conn) find(m *message, typ uint16, ok func(payload []byte) bool) (found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	native.PutUint16(m.b[6:], native.Uint16(m.b[6:])|unix.NLM_F_DUMP)
	c.seq++
	if err = c.send(m.seal(c.seq)); err != nil {
		return false, err
	}
	err = c.receive(c.seq, func(t uint16, payload []byte) bool {
		found = t == typ && ok(payload)
		return !found
	})
	return found, err
}

func (c *conn) send(b []byte) error {
	for {
		_, err := unix.Write(c.fd, b)
		if err != unix.EINTR {
			return wrap("send to kernel", err)
		}
	}
}

// receive reads the reply to request seq, and hands its messages to each, to its
// end or until each has enough. What is left of earlier replies is dropped.
func (c *conn) receive(seq uint32, each func(typ uint16, payload []byte) (more bool)) error {
	interrupted := false
	for {
		n, err := unix.Read(c.fd, c.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return wrap("read from kernel", err)
		}
		if n == 0 {
			return wrap("read from kernel", io.ErrUnexpectedEOF)
		}
		for b := c.buf[:n]; len(b) > 0; {
			h, payload, rest, err := cutMessage(b)
			if err != nil {
				return err
			}
			b = rest
			if h.Seq != seq {
				continue
			}
			interrupted = interrupted || h.Flags&unix.NLM_F_DUMP_INTR != 0
			switch h.Type {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				if err := refused(h, payload); err != nil {
					return err
				}
				if interrupted {
					return errInterrupted
				}
				return nil
			}
			if !each(h.Type, payload) || h.Flags&unix.NLM_F_MULTI == 0 {
				return nil
			}
		}
	}
}

// cutMessage takes the first message off a datagram.
func cutMessage(b []byte) (h unix.NlMsghdr, payload, rest []byte, err error) {
	if len(b) >= unix.SizeofNlMsghdr {
		h = unix.NlMsghdr{Len: native.Uint32(b), Type: native.Uint16(b[4:]), Flags: native.Uint16(b[6:]), Seq: native.Uint32(b[8:])}
	}
	if h.Len < unix.SizeofNlMsghdr || int64(h.Len) > int64(len(b)) {
		return h, nil, nil, fmt.Errorf("read from kernel: message cut short")
	}
	length := int(h.Len)
	return h, b[unix.SizeofNlMsghdr:length], b[min(align(length), len(b)):], nil
}

// refused returns what an acknowledgement, or the end of a dump, says.
func refused(h unix.NlMsghdr, payload []byte) error {
	errno := unix.Errno(-int32(u32Of(payload)))
	if errno == 0 {
		return nil
	}
	r := &refusal{errno: errno}
	if h.Flags&unix.NLM_F_ACK_TLVS != 0 {
		rest := payload[4:]
		if h.Type == unix.NLMSG_ERROR && len(rest) >= unix.SizeofNlMsghdr {
			rest = rest[unix.SizeofNlMsghdr:] // of the request; its payload is left out (NETLINK_CAP_ACK)
		}
		r.reason = textOf(lookup(rest, unix.NLMSGERR_ATTR_MSG))
	}
	return r
}

// wrap says what failed, if it failed.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
