package firewall

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// Reset removes all that Berth has in the host's firewall, for a host that nobody has
// containers on any more, and returns what it was; with dry it only looks. What other
// firewalls were told to let through is package allow's.
func Reset(_ context.Context, dry bool) (removed []string, err error) {
	s, err := nftnl.Dial()
	if err != nil {
		return nil, err
	}
	var errs []error
	for family, word := range map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_BRIDGE: "bridge"} {
		tables, err := nftnl.List(s, nftnl.Question(nftnl.GetTable, family), func(m netlink.Message) (string, bool) {
			name := netlink.Text(m.Find(nftnl.HeaderLen, unix.NFTA_TABLE_NAME))
			return name, OwnTable(name)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("list nftables tables of %s: %w", word, err))
		}
		for _, name := range tables {
			if !dry {
				err := s.Transact(nftnl.Request(nftnl.DelTable, 0, family).Text(unix.NFTA_TABLE_NAME, name))
				if err != nil && !errors.Is(err, unix.ENOENT) {
					errs = append(errs, fmt.Errorf("delete nftables table %s %s: %w", word, name, err))
					continue
				}
			}
			removed = append(removed, "nftables table "+word+" "+name)
		}
	}
	for _, v6 := range []bool{false, true} {
		chains, err := resetChains(v6, dry)
		removed, errs = append(removed, chains...), append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// resetChains removes our chains of iptables, and what leads to them. A host without
// iptables has none.
func resetChains(v6, dry bool) (removed []string, err error) {
	t, err := open(v6)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	all := ownChains(v6)
	for _, j := range append(jumps(v6), formerJumps(v6)...) {
		if there, err := j.Exists(t); err == nil && there && !dry {
			errs = append(errs, t.Delete(j.Table, j.Chain, j.Spec...))
		}
	}
	var there []string
	for _, c := range all { // empty first: one may lead to another
		if ok, err := t.ChainExists(c.table, c.name); err != nil || !ok {
			continue
		}
		there = append(there, fmt.Sprintf("iptables chain %s of table %s", c.name, c.table))
		if !dry {
			errs = append(errs, t.ClearChain(c.table, c.name))
		}
	}
	if !dry {
		for _, c := range all {
			if ok, err := t.ChainExists(c.table, c.name); err == nil && ok {
				errs = append(errs, t.DeleteChain(c.table, c.name))
			}
		}
	}
	return there, errors.Join(errs...)
}
