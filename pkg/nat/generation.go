package nat

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
)

// generation is the number of the rule set, which every change of it raises.
func generation() (uint32, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, err
	}
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, // struct nfgenmsg
	})
	if err = errors.Join(err, conn.Close()); err != nil {
		return 0, fmt.Errorf("read generation of the rule set: %w", err)
	}
	if len(replies) == 0 || len(replies[0].Data) < 4 {
		return 0, errors.New("read generation of the rule set: no answer")
	}
	attributes, err := netlink.NewAttributeDecoder(replies[0].Data[4:])
	if err != nil {
		return 0, fmt.Errorf("read generation of the rule set: %w", err)
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_GEN_ID {
			return attributes.Uint32(), nil
		}
	}
	return 0, errors.Join(errors.New("read generation of the rule set: it is missing"), attributes.Err())
}

// unsupported tells a kernel without nftables, or without a part of it, from
// other errors.
func unsupported(err error) error {
	for _, errno := range []error{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOENT} {
		if errors.Is(err, errno) {
			return cnierr.New(cnierr.Kernel,
				"load the modules (modprobe -a nf_tables nft_chain_nat nft_masq), or build the kernel with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT and CONFIG_NFT_MASQ; \"ipMasqBackend\": \"iptables\" is the other way",
				"the kernel lacks nftables, or a part of it: %w", errors.Join(errors.ErrUnsupported, err))
		}
	}
	return err
}
