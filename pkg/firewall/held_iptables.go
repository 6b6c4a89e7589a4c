package firewall

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"
)

// iptables reads our chains. Where the kernel has none no program is started.
func (l *heldList) iptables(ctx context.Context) error {
	for _, v6 := range []bool{false, true} {
		there, err := chainsThere(v6)
		if err != nil {
			return err
		}
		if !there || ctx.Err() != nil {
			continue
		}
		t, err := open(v6)
		if errors.Is(err, exec.ErrNotFound) {
			continue // nobody can read them
		}
		if err == nil {
			err = l.readChains(t, v6)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chainsThere tells whether the kernel may have our chains, in either form of iptables.
func chainsThere(v6 bool) (bool, error) {
	if xtables.InUse("nat", v6) {
		return true, nil
	}
	s, err := dial()
	if err != nil {
		return false, err
	}
	family := uint8(unix.NFPROTO_IPV4)
	if v6 {
		family = unix.NFPROTO_IPV6
	}
	there := false
	q := nftnl.Question(nftnl.GetChain, family).Text(unix.NFTA_CHAIN_TABLE, "nat").Text(unix.NFTA_CHAIN_NAME, chainHairpin)
	err = s.Ask([]*netlink.Request{q}, func(int, netlink.Message) { there = true })
	return there, err
}

func (l *heldList) readChains(t *iptables.IPTables, v6 bool) error {
	var others [][]string
	for _, c := range ownChains(v6) {
		there, err := t.ChainExists(c.table, c.name)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		lines, err := t.List(c.table, c.name)
		if err != nil {
			return err
		}
		for _, line := range lines {
			w := words(line)
			if len(w) < 2 || w[0] != "-A" {
				continue
			}
			if hash := after(w, "--comment"); attach.IsHash(hash) {
				l.addText(hash, xtables.Rule{Table: c.table, Chain: c.name, Spec: w[2:]}, v6)
			} else {
				others = append(others, w)
			}
		}
	}
	l.settleTexts(others, v6)
	return nil
}

// after is the word that follows a flag; empty when there is none.
func after(words []string, flag string) string {
	if i := slices.Index(words, flag); i >= 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// not tells whether a flag stands for all but its word.
func not(words []string, flag string) bool {
	i := slices.Index(words, flag)
	return i > 0 && words[i-1] == "!"
}

// addText reads a rule that [Rules.containerTexts] wrote.
func (l *heldList) addText(hash string, x xtables.Rule, v6 bool) {
	h := l.of(hash, IPTables)
	h.Backend = IPTables // that [Spoof] has elements of it does not tell
	h.texts[v6] = append(h.texts[v6], x)
	switch x.Chain {
	case chainHairpin:
		if one, err := netip.ParsePrefix(after(x.Spec, "-s")); err == nil {
			h.address(one.Addr(), after(x.Spec, "-o"))
		}
	case chainMasquerade, chainRouted:
		h.Masquerade = true
	case chainNames: // of networks on a bridge that somebody else made
		h.Names, h.Foreign = true, true
	case chainProtected:
		port, err := strconv.ParseUint(after(x.Spec, "--dport"), 10, 16)
		p := attach.Port{HostIP: netip.IPv4Unspecified(), Protocol: after(x.Spec, "-p"), HostPort: uint16(port), ContainerPort: uint16(port)}
		if v6 {
			p.HostIP = netip.IPv6Unspecified()
		}
		if err == nil {
			h.Open = append(h.Open, p)
		}
	case chainPublish:
		p := attach.Port{HostIP: netip.IPv4Unspecified(), Protocol: after(x.Spec, "-p")}
		if v6 {
			p.HostIP = netip.IPv6Unspecified()
		}
		if one, err := netip.ParsePrefix(after(x.Spec, "-d")); err == nil {
			p.HostIP = one.Addr()
		}
		port, err := strconv.ParseUint(after(x.Spec, "--dport"), 10, 16)
		to, bad := netip.ParseAddrPort(after(x.Spec, "--to-destination"))
		if err == nil && bad == nil {
			p.HostPort, p.ContainerPort = uint16(port), to.Port()
			h.Ports = append(h.Ports, p)
		}
	}
}

// settleTexts reads the rules of networks, those that [Rules.networkTexts] wrote.
func (l *heldList) settleTexts(rules [][]string, v6 bool) {
	for bridge, n := range l.bridges(IPTables) {
		for _, h := range l.by { // of the other family
			if h.Bridge == bridge && h.Backend == IPTables {
				n.Internal, n.Isolate = n.Internal || h.Internal, n.Isolate || h.Isolate
				n.NoICC, n.Names, n.Foreign = n.NoICC || h.NoICC, n.Names || h.Names, n.Foreign || h.Foreign
				n.Mode4, n.Mode6 = cmp.Or(n.Mode4, h.Mode4), cmp.Or(n.Mode6, h.Mode6)
			}
		}
		var protects, routes bool
		for _, w := range rules {
			if after(w, "-o") == bridge && w[1] == chainProtected {
				protects = true
				routes = routes || after(w, "-j") == "RETURN"
			}
			if after(w, "-i") != bridge || not(w, "-i") {
				continue
			}
			same := after(w, "-o") == bridge && !not(w, "-o")
			switch target := after(w, "-j"); {
			case w[1] == chainNames:
				n.Names = true
			case w[1] == chainForward && target == chainIsolated:
				n.Isolate = true
			case w[1] == chainForward && target == "DROP" && same:
				n.NoICC = true
			case w[1] == chainInput && target == "DROP":
				n.Internal = true
			}
		}
		if v6 {
			n.Mode6 = modeOf(protects, routes)
		} else {
			n.Mode4 = modeOf(protects, routes)
		}
		l.settle(IPTables, bridge, n)
	}
}

func (h *Held) removeTexts() error {
	var errs []error
	for v6, all := range h.texts {
		t, err := open(v6)
		if err == nil {
			err = xtables.DeleteRules(t, all)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
