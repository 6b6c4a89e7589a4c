package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/conntrack"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"
)

// ipt is the iptables backend, for kernels without nftables. It forks for every
// rule; a container is a few rules in shared chains.
type ipt struct{}

// lockWait is how long one iptables waits for another, in seconds.
const lockWait = 10

// open returns iptables (IPv4) or ip6tables: the plain name's flavour, which is nftables'
// or the older one. Where the kernel has no nftables for the family, the older.
func open(v6 bool) (*iptables.IPTables, error) {
	proto, name, nat := iptables.ProtocolIPv4, "iptables", &nftnl.Table{Family: unix.NFPROTO_IPV4, Name: "nat"}
	if v6 {
		proto, name, nat = iptables.ProtocolIPv6, "ip6tables", &nftnl.Table{Family: unix.NFPROTO_IPV6, Name: "nat"}
	}
	if nat.Supported() != nil {
		if _, err := exec.LookPath(name + "-legacy"); err == nil {
			name += "-legacy"
		}
	}
	t, err := iptables.New(iptables.Path(name), iptables.IPFamily(proto), iptables.Timeout(lockWait))
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w (Debian's package is iptables)", err)
	}
	return t, err
}

// families tells which of the two the attachment needs.
func families(a *attach.Attachment) (all []bool) {
	for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if _, ok := firstOfFamily(a.Addresses, like); ok {
			all = append(all, like.Is6())
		}
	}
	return all
}

func (b ipt) add(ctx context.Context, r *Rules, a *attach.Adding) error {
	err := b.put(r, a.Attachment, a.NetworkChanged)
	if err == nil {
		err = forgetFlows(a.Attachment, false)
	}
	if err != nil {
		if undo := b.del(ctx, r, a.Attachment); undo != nil {
			return errors.Join(err, undo, attach.ErrLeft)
		}
	}
	return err
}

// put makes the rules of the attachment and of its network; changed: what the network
// had with other settings goes first.
func (ipt) put(r *Rules, a *attach.Attachment, changed bool) error {
	if _, err := forwards(a); err != nil {
		return err
	}
	for _, v6 := range families(a) {
		t, err := open(v6)
		if err != nil {
			return err
		}
		wanted, unwanted := r.networkTexts(v6)
		if changed {
			if !r.Names {
				unwanted = append(append(unwanted, r.questionTexts(a, v6)...), formerQuestions(r.Bridge)...)
			}
			if err := xtables.DeleteRules(t, unwanted); err != nil {
				return err
			}
		}
		if err := ensureChains(t, v6); err != nil {
			return err
		}
		for _, x := range append(wanted, r.containerTexts(a, v6)...) {
			if err := x.Ensure(t); err != nil {
				return err
			}
		}
		if r.Names {
			if err := r.putQuestions(t, a, v6); err != nil {
				return err
			}
		}
	}
	return nil
}

func (ipt) del(_ context.Context, r *Rules, a *attach.Attachment) error {
	var errs []error
	for _, v6 := range families(a) {
		t, err := open(v6)
		if err == nil {
			all := append(r.containerTexts(a, v6), r.formerTexts(a, v6)...)
			if r.Own {
				all = append(all, everyText(r.Bridge, v6)...)
			}
			if r.Own || r.Foreign {
				all = append(all, r.questionTexts(a, v6)...)
			}
			err = xtables.DeleteRules(t, all)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, forgetFlows(a, true))...)
}

func (ipt) withdraw(_ context.Context, had, has *Rules, before, now *attach.Attachment) error {
	var errs []error
	for _, v6 := range families(before) {
		t, err := open(v6)
		if err == nil {
			kept := has.containerTexts(now, v6)
			err = xtables.DeleteRules(t, slices.DeleteFunc(had.containerTexts(before, v6), func(x xtables.Rule) bool {
				return slices.ContainsFunc(kept, func(k xtables.Rule) bool { return k.String() == x.String() })
			}))
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, forget(goneFlows(before, now)))...)
}

func (ipt) check(_ context.Context, r *Rules, a *attach.Attachment) error {
	var errs []error
	for _, v6 := range families(a) {
		t, err := open(v6)
		if err != nil {
			return err
		}
		wanted, _ := r.networkTexts(v6)
		all := append(jumps(v6), wanted...)
		if asks := r.questionTexts(a, v6); r.Names && len(asks) > 0 {
			all = append(append(all, answerTexts(answerPort())...), asks...)
		}
		for _, x := range append(all, r.containerTexts(a, v6)...) {
			there, err := x.Exists(t)
			if err == nil && !there {
				err = fmt.Errorf("iptables rule is missing: %s", x)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (ipt) removeNetwork(_ context.Context, bridge string) error {
	var errs []error
	for _, v6 := range []bool{false, true} {
		t, err := open(v6)
		if errors.Is(err, exec.ErrNotFound) {
			continue // nor has it made anything
		}
		var questions []xtables.Rule
		if err == nil {
			questions, err = questionsOn(t, bridge)
		}
		if err == nil {
			err = xtables.DeleteRules(t, append(everyText(bridge, v6), questions...))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (ipt) usable() error {
	t, err := open(false)
	if err != nil {
		return err
	}
	_, err = t.ChainExists("nat", "PREROUTING")
	return err
}

// rebuild empties our chains and fills them again. It is not atomic: for a moment
// ports are not published. The records are listed after the chains are empty, so
// that what others add meanwhile is in them or in the list; and again when the
// chains are full, to delete what has gone since.
func (b ipt) rebuild(ctx context.Context, all records) error {
	if err := clearChains(); err != nil {
		return err
	}
	put := map[attach.Key]*attach.Attachment{}
	for range rounds {
		list, err := all(ctx)
		if err != nil {
			return err
		}
		there, changed := map[attach.Key]bool{}, false
		for _, a := range list {
			r := RulesOf(a)
			if r == nil || r.Backend != IPTables || a.Deleting {
				continue
			}
			there[a.Key] = true
			if put[a.Key] == nil {
				put[a.Key], changed = a, true
				err = errors.Join(err, b.put(r, a, false))
			}
		}
		for key, a := range put {
			if !there[key] {
				delete(put, key)
				changed = true
				err = errors.Join(err, b.del(ctx, RulesOf(a), a))
			}
		}
		if err = errors.Join(err, ctx.Err()); err != nil || !changed {
			return err
		}
	}
	return errors.New("containers come and go all the time")
}

// rounds bounds how often the records are read again.
const rounds = 100

// RestoreIPTables makes the iptables backend's rules anew, for all attachments, when
// somebody flushed a table: what leads to our chains is gone. With again it does in any
// case. It says whether it did; an error says that rules may be missing still, as when
// somebody flushes on. users are attachments that there were of late; all lists those that
// there are. Without users it does nothing, else it runs iptables for each jump.
func RestoreIPTables(ctx context.Context, users []*attach.Attachment, again bool, all records) (restored bool, err error) {
	flushed, err := flushedIPTables(users)
	if err != nil || !flushed && !again {
		return false, err
	}
	if err := (ipt{}).rebuild(ctx, all); err != nil {
		return true, err
	}
	list, err := all(ctx)
	errs := []error{err}
	for _, a := range list {
		if r := RulesOf(a); r != nil && r.Backend == IPTables && !a.Deleting {
			errs = append(errs, ipt{}.check(ctx, r, a))
		}
	}
	return true, errors.Join(errs...)
}

// flushedIPTables reports whether a jump to our chains is missing that the attachments
// need.
func flushedIPTables(users []*attach.Attachment) (bool, error) {
	asked := map[bool]bool{}
	for _, a := range users {
		if r := RulesOf(a); r == nil || r.Backend != IPTables || a.Deleting {
			continue
		}
		for _, v6 := range families(a) {
			if asked[v6] {
				continue
			}
			asked[v6] = true
			t, err := open(v6)
			if err != nil {
				return false, err
			}
			for _, x := range jumps(v6) {
				if there, err := x.Exists(t); err != nil || !there {
					return !there, err
				}
			}
		}
	}
	return false, nil
}

func clearChains() error {
	for _, v6 := range []bool{false, true} {
		t, err := open(v6)
		if v6 && errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, c := range ownChains(v6) {
			if err := t.ClearChain(c.table, c.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetFlows is [conntrack.Forget] with a socket of its own.
func forgetFlows(a *attach.Attachment, gone bool) error { return forget(staleFlows(a, gone)) }

func forget(all []conntrack.Flows) error {
	if len(all) == 0 {
		return nil
	}
	s, err := dial()
	if err != nil {
		return err
	}
	return conntrack.Forget(s.Socket, all)
}

// ensureChains makes our chains and the jumps to them. A jump that is there
// has its chain.
func ensureChains(t *iptables.IPTables, v6 bool) error {
	var former []xtables.Rule
	for _, j := range jumps(v6) {
		there, err := j.Exists(t)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		for _, c := range ownChains(v6) {
			if c.table != j.Table {
				continue
			}
			if err := newChain(t, c); err != nil {
				return err
			}
		}
		if err := j.Ensure(t); err != nil {
			return err
		}
		former = formerJumps(v6)
	}
	return xtables.DeleteRules(t, former)
}

// newChain makes a chain, if there is none.
func newChain(t *iptables.IPTables, c ownChain) error {
	const exists = 1 // iptables(8): also for other errors, which the rules then meet
	var e *iptables.Error
	if err := t.NewChain(c.table, c.name); err != nil && !(errors.As(err, &e) && e.ExitStatus() == exists) {
		return err
	}
	return nil
}
