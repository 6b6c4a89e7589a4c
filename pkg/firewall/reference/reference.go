// Package reference finds and removes what the reference plugins
// (containernetworking/plugins, up to v1.10.0) keep in the host's firewall for a container:
// the masquerade of bridge, macvlan and ptp, and the ports of portmap, in iptables and in
// nftables. A node whose plugins are replaced has containers that these made.
//
// The kernel is asked without a program, and most hosts have none of it.
package reference

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
)

// Owner is whose a rule is, as far as the rule says it.
type Owner struct {
	Network   string // empty where a rule does not say it
	Container string
	IfName    string // empty where a rule does not say it
}

func (o Owner) String() string {
	return fmt.Sprintf("container %s (network %s)", cmp.Or(o.Container, "?"), cmp.Or(o.Network, "?"))
}

// is tells whether what a rule says can be this attachment. Where it names the container
// alone (portmap's, in nftables), it can be of any of the container's networks.
func (o Owner) is(one Owner, alone bool) bool {
	same := func(said, wanted string) bool { return said == "" || said == wanted }
	return o.Container == one.Container && (o.Network == one.Network || o.Network == "" && alone) && same(o.IfName, one.IfName)
}

// Left is what is there of one owner.
type Left struct {
	Owner
	Where []string // such as "iptables nat CNI-4e2f…", sorted
	rules []rule
}

// rule is one that can be removed.
type rule interface {
	owner() Owner
	where() string
}

// List returns what is there, of all owners.
func List(ctx context.Context) ([]*Left, error) {
	s, err := nftnl.Dial()
	if err != nil {
		return nil, err
	}
	return list(ctx, s, nil)
}

// list leaves out iptables where no rule mentions the container; nil: all.
func list(ctx context.Context, s *nftnl.Socket, container *string) ([]*Left, error) {
	nft, err := nftRules(s)
	ipt, bad := iptRules(ctx, s, container)
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("list rules of the reference plugins: %w", err)
	}
	by := map[Owner]*Left{}
	var all []*Left
	for _, r := range slices.Concat(nft, ipt) {
		l := by[r.owner()]
		if l == nil {
			l = &Left{Owner: r.owner()}
			by[l.Owner], all = l, append(all, l)
		}
		l.rules = append(l.rules, r)
		if !slices.Contains(l.Where, r.where()) {
			l.Where = append(l.Where, r.where())
		}
	}
	for _, l := range all {
		slices.Sort(l.Where)
	}
	slices.SortFunc(all, func(a, b *Left) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.IfName, b.IfName))
	})
	return all, nil
}

// Forget removes what is there of one attachment; nothing counts as removed. Rules that do
// not say their network are its own where it is the container's only one: alone.
func Forget(ctx context.Context, one Owner, alone bool) error {
	s, err := nftnl.Dial()
	if err != nil {
		return err
	}
	all, err := list(ctx, s, &one.Container)
	for _, l := range all {
		if l.is(one, alone) {
			err = errors.Join(err, l.remove(s))
		}
	}
	return err
}

// Remove removes what was found.
func (l *Left) Remove() error {
	s, err := nftnl.Dial()
	if err != nil {
		return err
	}
	return l.remove(s)
}

func (l *Left) remove(s *nftnl.Socket) error {
	var ofNft []*nftRule
	var errs []error
	for _, r := range l.rules {
		switch r := r.(type) {
		case *nftRule:
			ofNft = append(ofNft, r)
		case *iptRule:
			errs = append(errs, r.remove())
		}
	}
	errs = append(errs, removeNft(s, ofNft))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove rules of the reference plugins for %s: %w", l.Owner, err)
	}
	return nil
}
