package probe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// nft returns a function that makes an nftables chain of that type.
func nft(family byte, kind string, hook uint32) func() error {
	const table, chain = "probe", "probe"
	newTable := message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_ACK, family, 0,
		text(unix.NFTA_TABLE_NAME, table))
	newChain := message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_ACK, family, 0,
		text(unix.NFTA_CHAIN_TABLE, table), text(unix.NFTA_CHAIN_NAME, chain), text(unix.NFTA_CHAIN_TYPE, kind),
		attribute(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, number(unix.NFTA_HOOK_HOOKNUM, hook), number(unix.NFTA_HOOK_PRIORITY, 0)))
	return func() error { return batch(newTable, newChain) }
}

// batch sends messages, of which each asks to be acknowledged, as one transaction.
func batch(messages ...[]byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return err
	}
	request := message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	for _, m := range messages {
		request = append(request, m...)
	}
	request = append(request, message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES)...)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send batch: %w", err)
	}
	answer := make([]byte, 1<<16)
	for acknowledged := 0; acknowledged < len(messages); {
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil {
			return fmt.Errorf("receive answer: %w", err)
		}
		for rest := answer[:n]; len(rest) >= unix.NLMSG_HDRLEN+4; acknowledged++ {
			if errno := int32(binary.NativeEndian.Uint32(rest[unix.NLMSG_HDRLEN:])); errno != 0 {
				return fmt.Errorf("make chain: %w", unix.Errno(-errno))
			}
			size := align(int(binary.NativeEndian.Uint32(rest)))
			if size < unix.NLMSG_HDRLEN || size > len(rest) {
				return errors.New("receive answer: it is cut off")
			}
			rest = rest[size:]
		}
	}
	return nil
}

// message is one of nfnetlink.
func message(kind, flags uint16, family byte, resource uint16, attributes ...[]byte) []byte {
	m := make([]byte, unix.NLMSG_HDRLEN, 256)
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	m = append(m, family, unix.NFNETLINK_V0)
	m = binary.BigEndian.AppendUint16(m, resource)
	for _, a := range attributes {
		m = append(m, a...)
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	return m
}

// attribute is padded to its alignment.
func attribute(kind uint16, values ...[]byte) []byte {
	a := make([]byte, unix.SizeofNlAttr, 64)
	for _, v := range values {
		a = append(a, v...)
	}
	binary.NativeEndian.PutUint16(a, uint16(len(a)))
	binary.NativeEndian.PutUint16(a[2:], kind)
	return append(a, make([]byte, align(len(a))-len(a))...)
}

func text(kind uint16, s string) []byte { return attribute(kind, append([]byte(s), 0)) }

func number(kind uint16, n uint32) []byte {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, n))
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
