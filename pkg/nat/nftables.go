package nat

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const (
	tableName = "microvm-cni"
	chainName = "postrouting"

	// maxComment is the longest comment of a rule that nft prints, in bytes
	// (NFTNL_UDATA_COMMENT_MAXLEN).
	maxComment = 128

	// maxReads is how often a list is read that others keep changing.
	maxReads = 20
)

// table is our table. It holds one chain, and in it a rule for each source of
// each network. The comment of a rule names its network.
//
// A rule is whole in itself, so that what is there is as easily told as what is
// missing, and one that is added or removed never changes what another one does.
type table struct {
	conn *nftables.Conn
}

// rule is one of the table's rules.
type rule struct {
	*nftables.Rule
}

// state is what there is of the table.
type state struct {
	exists bool // the table does
	works  bool // so does its chain, and packets go through it
	rules  []rule
}

func withTable(act func(*table) error) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return unsupported(err)
	}
	return errors.Join(act(&table{conn: conn}), conn.CloseLasting())
}

func ourTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
}

func ourChain() *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Table: ourTable(), Name: chainName, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource, Policy: &accept,
	}
}

// read returns what there is. The kernel hands out rules in several pieces, and
// when somebody changes the rule set in between, whatever table, some may be
// missing: then it is read anew.
func (t *table) read() (state, error) {
	// Most removals end here, so this comes before all else.
	if _, err := t.conn.ListTableOfFamily(tableName, nftables.TableFamilyINet); errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	before, err := generation()
	if err != nil {
		return state{}, unsupported(err)
	}
	for range maxReads {
		s, err := t.readOnce()
		after, genErr := generation()
		if genErr != nil {
			return state{}, genErr
		}
		if after == before {
			return s, err
		}
		before = after
	}
	return state{}, cnierr.New(cnierr.TryAgain, "try again, or find out what keeps changing the rules: nft monitor",
		"read table %s: somebody changed the rule set %d times meanwhile", tableName, maxReads)
}

func (t *table) readOnce() (state, error) {
	found, err := t.conn.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read table %s: %w", tableName, err)
	}
	s := state{exists: true}
	chain, err := t.conn.ListChain(ourTable(), chainName)
	if err != nil {
		return s, nil //nolint:nilerr // There is none. The library does not tell that from other errors.
	}
	// We set no flag, and one of them puts the table to sleep.
	s.works = found.Flags == 0 && sameChain(chain)
	rules, err := t.conn.GetRules(ourTable(), ourChain())
	if err != nil {
		return s, fmt.Errorf("list rules of table %s: %w", tableName, err)
	}
	for _, r := range rules {
		s.rules = append(s.rules, rule{r})
	}
	return s, nil
}

func sameChain(c *nftables.Chain) bool {
	want := ourChain()
	return c.Type == want.Type && c.Hooknum != nil && *c.Hooknum == *want.Hooknum && c.Priority != nil && *c.Priority == *want.Priority
}

func (t *table) observe(of linkspec.Masquerade) ([]linkspec.Masquerade, error) {
	s, err := t.read()
	if err != nil {
		return nil, err
	}
	if !s.concerns(of.Network) {
		return nil, nil
	}
	got := linkspec.Masquerade{Backend: linkspec.NFTables, Network: of.Network}
	for _, source := range of.Sources {
		if s.masquerades(of.Network, source) {
			got.Sources = append(got.Sources, source)
		}
	}
	return []linkspec.Masquerade{got}, nil
}

func (t *table) ensure(m linkspec.Masquerade) error {
	s, err := t.read()
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(m.Sources), func(p netip.Prefix) bool { return s.has(m.Network, p) })
	if len(missing) == 0 && !s.isWrong(m.Network) {
		return nil
	}
	if s.exists && !s.works {
		// Somebody took it apart. What it held for other networks comes back with
		// their next ADDs.
		t.conn.DelTable(ourTable())
	}
	t.conn.AddTable(ourTable())
	t.conn.AddChain(ourChain())
	if s.works {
		if err := t.removeWrong(s, m); err != nil {
			return err
		}
	}
	for _, source := range missing {
		t.conn.AddRule(&nftables.Rule{Table: ourTable(), Chain: ourChain(), Exprs: masquerade(source), UserData: comment(m.Network)})
	}
	if err := t.conn.Flush(); err != nil {
		return unsupported(fmt.Errorf("add rules to table %s: %w", tableName, err))
	}
	return nil
}

// removeWrong removes what has the network's mark and is not what any of its rules
// says: it may come before one that is right.
func (t *table) removeWrong(s state, m linkspec.Masquerade) error {
	for _, r := range s.rules {
		if !r.isOf(m.Network) || r.isRight() {
			continue
		}
		if err := t.conn.DelRule(&nftables.Rule{Table: ourTable(), Chain: ourChain(), Handle: r.Handle}); err != nil {
			return fmt.Errorf("remove rule %d of table %s: %w", r.Handle, tableName, err)
		}
	}
	return nil
}

// remove removes the table with its last rule, and its chain with it.
func (t *table) remove(m linkspec.Masquerade) error {
	s, err := t.read()
	if err != nil {
		return err
	}
	if !s.concerns(m.Network) {
		return nil
	}
	gone := 0
	for _, r := range s.rules {
		if !r.isOf(m.Network) {
			continue
		}
		gone++
		if err := t.conn.DelRule(&nftables.Rule{Table: ourTable(), Chain: ourChain(), Handle: r.Handle}); err != nil {
			return fmt.Errorf("remove rule %d of table %s: %w", r.Handle, tableName, err)
		}
	}
	if gone == len(s.rules) {
		t.conn.DelTable(ourTable())
	}
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("remove rules of table %s: %w", tableName, err)
	}
	return nil
}

// concerns tells whether there is something to remove for the network. What
// somebody emptied is everybody's.
func (s state) concerns(network string) bool {
	return s.exists && (len(s.rules) == 0 || slices.ContainsFunc(s.rules, func(r rule) bool { return r.isOf(network) }))
}

// masquerades tells whether there is a rule for the source, and none with the
// network's mark that says something else, which may come before it.
func (s state) masquerades(network string, source netip.Prefix) bool {
	return s.has(network, source) && !slices.ContainsFunc(s.rules, func(r rule) bool {
		return r.isOf(network) && !r.isRight() && r.mayMatch(source)
	})
}

func (s state) has(network string, source netip.Prefix) bool {
	want := masquerade(source)
	return s.works && slices.ContainsFunc(s.rules, func(r rule) bool { return r.isOf(network) && same(r.Exprs, want) })
}

func (s state) isWrong(network string) bool {
	return slices.ContainsFunc(s.rules, func(r rule) bool { return r.isOf(network) && !r.isRight() })
}

// isRight tells whether it is the rule for some source.
func (r rule) isRight() bool {
	source, ok := r.source()
	return ok && same(r.Exprs, masquerade(source))
}

// mayMatch tells whether the rule is about packets of the source's family, as far as
// it begins as ours do.
func (r rule) mayMatch(source netip.Prefix) bool {
	const family = 1 // in masquerade
	if len(r.Exprs) <= family {
		return true
	}
	have, ok := r.Exprs[family].(*expr.Cmp)
	want, _ := masquerade(source)[family].(*expr.Cmp)
	return !ok || len(have.Data) != 1 || bytes.Equal(have.Data, want.Data)
}

// source is the prefix that the first address of the packet is compared with.
func (r rule) source() (netip.Prefix, bool) {
	const mask, value = 3, 4 // in masquerade
	if len(r.Exprs) <= value {
		return netip.Prefix{}, false
	}
	m, ok1 := r.Exprs[mask].(*expr.Bitwise)
	v, ok2 := r.Exprs[value].(*expr.Cmp)
	if !ok1 || !ok2 {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(v.Data)
	bits, size := net.IPMask(m.Mask).Size()
	return netip.PrefixFrom(addr, bits), ok && size == addr.BitLen()
}

func (r rule) isOf(network string) bool { return bytes.Equal(r.UserData, comment(network)) }

// comment is what marks the rules of a network, as nft prints it.
func comment(network string) []byte {
	text := "microvm-cni: network " + network
	if len(text)+1 > maxComment {
		sum := sha256.Sum256([]byte(network))
		text = "microvm-cni: network sha256:" + hex.EncodeToString(sum[:])
	}
	return userdata.AppendString(nil, userdata.TypeComment, text)
}

// same compares rules by what is sent for them.
func same(a, b []expr.Any) bool {
	return slices.EqualFunc(a, b, func(x, y expr.Any) bool {
		one, err1 := expr.Marshal(byte(nftables.TableFamilyINet), x)
		two, err2 := expr.Marshal(byte(nftables.TableFamilyINet), y)
		return err1 == nil && err2 == nil && bytes.Equal(one, two)
	})
}

// Destinations that are never masqueraded, beside the source itself.
var (
	spared4 = []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32")}
	spared6 = []netip.Prefix{netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10")}
)

// Offsets of addresses in the IP headers, in bytes.
const (
	source4, destination4 = 12, 16
	source6, destination6 = 8, 24
)

// masquerade is the rule for a source:
//
//	ip saddr SOURCE ip daddr != SOURCE ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255 masquerade
func masquerade(source netip.Prefix) []expr.Any {
	family, from, to, spared := byte(unix.NFPROTO_IPV4), uint32(source4), uint32(destination4), spared4
	if source.Addr().Is6() {
		family, from, to, spared = unix.NFPROTO_IPV6, source6, destination6, spared6
	}
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
	}
	exprs = append(exprs, within(from, expr.CmpOpEq, source)...)
	for _, p := range append([]netip.Prefix{source}, spared...) {
		exprs = append(exprs, within(to, expr.CmpOpNeq, p)...)
	}
	return append(exprs, &expr.Masq{})
}

// within compares the address at that offset with a prefix.
func within(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	size := p.Addr().BitLen() / 8
	mask := make([]byte, size)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}
