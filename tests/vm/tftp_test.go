package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
)

// The parts of TFTP (RFC 1350, 2347, 2348) that busybox speaks.
const (
	tftpRead = iota + 1
	tftpWrite
	tftpData
	tftpAck
	_ // error
	tftpOptions
	tftpBlock = 8192 // bytes
)

// tftp is a server on the host that gives its file to whoever reads, and keeps what
// is written: UDP in bulk, for a guest that can speak nothing else.
type tftp struct {
	conn *net.UDPConn
	file []byte
	wg   sync.WaitGroup
	mu   sync.Mutex
	kept []byte
	got  []byte // of a transfer that goes on
}

func (l *lab) serveFile(file []byte) *tftp {
	l.t.Helper()
	s := &tftp{file: file}
	l.do("listen for TFTP", func() (err error) {
		s.conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: 69})
		return err
	})
	s.wg.Go(func() {
		if err := s.serve(); err != nil && !errors.Is(err, net.ErrClosed) {
			l.t.Errorf("TFTP: %v", err)
		}
	})
	l.t.Cleanup(func() {
		_ = s.conn.Close()
		s.wg.Wait()
	})
	return s
}

// written returns what the last transfer to the host brought.
func (s *tftp) written() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept
}

// forget makes written return what comes from now on.
func (s *tftp) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = nil
}

func (s *tftp) serve() error {
	b := make([]byte, 1<<16)
	for {
		n, from, err := s.conn.ReadFromUDP(b)
		if err != nil {
			return err
		}
		if answer := s.answer(b[:n]); answer != nil {
			if _, err := s.conn.WriteToUDP(answer, from); err != nil {
				return err
			}
		}
	}
}

// answer is to one datagram. The client sends again what is lost.
func (s *tftp) answer(b []byte) []byte {
	op, block := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	switch op {
	case tftpRead, tftpWrite:
		s.got = nil
		return append([]byte{0, tftpOptions}, fmt.Sprintf("blksize\x00%d\x00", tftpBlock)...)
	case tftpAck:
		at := int(block) * tftpBlock
		if at > len(s.file) {
			return nil // that was the last
		}
		return append(binary.BigEndian.AppendUint16([]byte{0, tftpData}, block+1), s.file[at:min(len(s.file), at+tftpBlock)]...)
	case tftpData:
		if int(block) == len(s.got)/tftpBlock+1 {
			s.got = append(s.got, b[4:]...)
			if len(b)-4 < tftpBlock {
				s.mu.Lock()
				s.kept = bytes.Clone(s.got)
				s.mu.Unlock()
			}
		}
		return binary.BigEndian.AppendUint16([]byte{0, tftpAck}, block)
	}
	return nil
}
