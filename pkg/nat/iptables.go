package nat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/plugins/pkg/ip"
	"github.com/containernetworking/plugins/pkg/utils"
	"github.com/coreos/go-iptables/iptables"

	"github.com/microvm-cni/microvm-cni/pkg/cnierr"
	"github.com/microvm-cni/microvm-cni/pkg/linkspec"
)

const (
	natTable = "nat"
	hook     = "POSTROUTING"
)

// chains are those of the upstream plugins: one for each container, CNI- and a
// hash of network and container ID, into which POSTROUTING sends what comes from
// the guest's address. Runtimes insert rules of their own into it.
//
// Every call runs iptables a few times, at 3 to 9 ms each.
type chains struct{}

// command is iptables or ip6tables.
type command struct {
	*iptables.IPTables
	bits int // of an address
}

// commands are those that the host has. Where it lacks the one that an address
// needs, it is an error.
func commands(sources []netip.Prefix) ([]command, error) {
	var have []command
	for _, c := range []struct {
		protocol iptables.Protocol
		bits     int
		name     string
	}{{iptables.ProtocolIPv4, 32, "iptables"}, {iptables.ProtocolIPv6, 128, "ip6tables"}} {
		ipt, err := iptables.NewWithProtocol(c.protocol)
		needed := c.bits == 32 && len(sources) == 0 || slices.ContainsFunc(sources, func(p netip.Prefix) bool { return p.Addr().BitLen() == c.bits })
		switch {
		case err == nil:
			have = append(have, command{ipt, c.bits})
		case needed && installed(c.name):
			return nil, cnierr.New(cnierr.Kernel, "run it by hand, in the host's network namespace, to see what it lacks ("+c.name+" -t nat -S); or leave \"ipMasqBackend\" out, for nftables needs no program",
				"the program %s does not work: %w", c.name, err)
		case needed:
			return nil, cnierr.New(cnierr.Kernel,
				"install the package iptables, into a folder of the PATH that the runtime gives its plugins; or leave \"ipMasqBackend\" out, for nftables needs no program",
				"there is no program %s: %w", c.name, errors.Join(errors.ErrUnsupported, err))
		}
	}
	return have, nil
}

// installed tells whether there is such a program in PATH.
func installed(name string) bool {
	return slices.ContainsFunc(filepath.SplitList(os.Getenv("PATH")), func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	})
}

// jump is a rule of POSTROUTING that sends a guest's packets to its chain.
type jump struct {
	chain       string
	containerID string // as far as the comment holds it
	comment     string
	source      netip.Addr
}

// isOf tells whether the rule is of the container, as told by the name of its chain
// or, for one whose ID nobody knows any more, by what is left of that in the comment.
func (j jump) isOf(m linkspec.Masquerade) bool {
	return j.chain == utils.FormatChainName(m.Network, m.ContainerID) || j.cut() && j.containerID == m.ContainerID
}

// cut tells whether the ID was too long for a comment.
func (j jump) cut() bool { return len(j.comment) == maxChainComment }

// maxChainComment is how many bytes of a comment iptables keeps (XT_MAX_COMMENT_LEN,
// less a zero at its end).
const maxChainComment = 255

// commentOf is what upstream's library writes, as iptables keeps it.
func commentOf(m linkspec.Masquerade) string {
	comment := utils.FormatComment(m.Network, m.ContainerID)
	return comment[:min(len(comment), maxChainComment)]
}

// jumps returns those of the network.
func (c command) jumps(network string) ([]jump, error) {
	lines, err := c.List(natTable, hook)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", hook, err)
	}
	var found []jump
	for _, line := range lines {
		if j, ok := parseJump(line, network); ok {
			found = append(found, j)
		}
	}
	return found, nil
}

// parseJump reads a rule as iptables -S prints it:
//
//	-A POSTROUTING -s 10.1.0.2/32 -m comment --comment "name: \"lab\" id: \"vm1\"" -j CNI-...
//
// The ID, and what follows it, may be cut off.
func parseJump(line, network string) (jump, bool) {
	_, rest, ok := strings.Cut(line, `--comment "name: \"`+network+`\" id: \"`)
	end := strings.LastIndex(rest, `" -j CNI-`)
	if !ok || end < 0 {
		return jump{}, false
	}
	j := jump{chain: rest[end+len(`" -j `):], comment: `name: "` + network + `" id: "`}
	id, whole := strings.CutSuffix(rest[:end], `\"`)
	j.containerID = id
	if j.comment += id; whole {
		j.comment += `"`
	}
	if !j.cut() && (!whole || j.chain != utils.FormatChainName(network, id)) {
		return jump{}, false
	}
	if _, from, ok := strings.Cut(line, " -s "); ok {
		text, _, _ := strings.Cut(from, " ")
		if p, err := netip.ParsePrefix(text); err == nil {
			j.source = p.Addr()
		}
	}
	return j, true
}

func (chains) observe(of linkspec.Masquerade) ([]linkspec.Masquerade, error) {
	have, err := commands(of.Sources)
	if err != nil {
		return nil, err
	}
	var got []linkspec.Masquerade
	for _, c := range have {
		jumps, err := c.jumps(of.Network)
		if err != nil {
			return nil, err
		}
		for _, j := range jumps {
			holder := linkspec.Masquerade{Backend: linkspec.IPTables, Network: of.Network, ContainerID: of.ContainerID}
			switch {
			case of.ContainerID == "":
				holder.ContainerID = j.containerID
			case !j.isOf(of):
				continue
			}
			i := slices.IndexFunc(got, holder.SameHolder)
			if i < 0 {
				i, got = len(got), append(got, holder)
			}
			source, declared := sourceOf(of.Sources, j.source)
			if !declared {
				continue
			}
			whole := of.ContainerID == "" // that there is a rule is enough then
			if !whole {
				if whole, err = c.whole(j.chain, of, source); err != nil {
					return nil, err
				}
			}
			if whole && !slices.Contains(got[i].Sources, source) {
				got[i].Sources = append(got[i].Sources, source)
			}
		}
	}
	return got, nil
}

func sourceOf(sources []netip.Prefix, addr netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(sources, func(p netip.Prefix) bool { return p.Addr() == addr })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return sources[i], true
}

// whole tells whether the chain holds all that a source needs. What others
// inserted is not looked at.
func (c command) whole(chain string, m linkspec.Masquerade, source netip.Prefix) (bool, error) {
	for _, rule := range c.rules(m, source) {
		there, err := c.Exists(natTable, chain, rule...)
		if err != nil || !there {
			return false, wrapRule(err, chain)
		}
	}
	return true, nil
}

func wrapRule(err error, chain string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("look into chain %s: %w", chain, err)
}

// rules are those of a chain, for one source: what upstream's library adds, and
// before it, for IPv4, one that spares broadcasts, which with br_netfilter come
// here as well.
func (c command) rules(m linkspec.Masquerade, source netip.Prefix) [][]string {
	comment := []string{"-m", "comment", "--comment", commentOf(m)}
	rule := func(words ...string) []string { return append(words, comment...) }
	within := rule("-d", source.Masked().String(), "-j", "ACCEPT")
	if c.bits == 128 {
		return [][]string{within, rule("!", "-d", spared6[0].String(), "-j", "MASQUERADE")}
	}
	return [][]string{c.broadcast(m), within, rule("!", "-d", spared4[0].String(), "-j", "MASQUERADE")}
}

func (c command) broadcast(m linkspec.Masquerade) []string {
	return []string{"-d", spared4[1].String(), "-j", "ACCEPT", "-m", "comment", "--comment", commentOf(m)}
}

func (b chains) ensure(m linkspec.Masquerade) error {
	got, err := b.observe(m)
	if err != nil {
		return err
	}
	if len(linkspec.DiffMasquerade(m, got)) == 0 {
		return nil
	}
	have, err := commands(m.Sources)
	if err != nil {
		return err
	}
	chain := utils.FormatChainName(m.Network, m.ContainerID)
	for _, c := range have {
		if c.bits == 32 && slices.ContainsFunc(m.Sources, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
			if err := c.spareBroadcasts(chain, m); err != nil {
				return err
			}
		}
	}
	backend := string(linkspec.IPTables)
	if err := ip.SetupIPMasqForNetworks(&backend, ipNets(m.Sources), m.Network, "", m.ContainerID); err != nil {
		return fmt.Errorf("add chain %s: %w", chain, err)
	}
	return nil
}

// spareBroadcasts makes the chain begin with the rule for broadcasts.
func (c command) spareBroadcasts(chain string, m linkspec.Masquerade) error {
	there, err := c.ChainExists(natTable, chain)
	if err == nil && !there {
		err = c.NewChain(natTable, chain)
	}
	if err == nil {
		err = c.InsertUnique(natTable, chain, 1, c.broadcast(m)...)
	}
	if err != nil {
		return fmt.Errorf("add chain %s: %w", chain, err)
	}
	return nil
}

// remove finds the addresses out by itself: whoever removes has forgotten them.
func (chains) remove(m linkspec.Masquerade) error {
	have, err := commands(nil)
	if err != nil {
		return err
	}
	names := []string{utils.FormatChainName(m.Network, m.ContainerID)}
	var errs []error
	for _, c := range have {
		jumps, err := c.jumps(m.Network)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, j := range jumps {
			if !j.isOf(m) || !j.source.IsValid() {
				continue
			}
			errs = append(errs, c.Delete(natTable, hook, "-s", j.source.String(), "-j", j.chain, "-m", "comment", "--comment", j.comment))
			if !slices.Contains(names, j.chain) {
				names = append(names, j.chain)
			}
		}
		// A chain may be left that nobody jumps to.
		for _, chain := range names {
			errs = append(errs, c.ClearAndDeleteChain(natTable, chain))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove chain %s: %w", names[0], err)
	}
	return nil
}

func ipNets(sources []netip.Prefix) []*net.IPNet {
	var nets []*net.IPNet
	for _, p := range sources {
		nets = append(nets, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return nets
}
