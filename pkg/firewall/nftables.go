package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/conntrack"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// nft is the nftables backend.
type nft struct{}

func (nft) add(ctx context.Context, r *Rules, a *attach.Adding) error {
	elements, err := r.containerElements(a.Attachment)
	if err != nil {
		return err
	}
	s, err := dial()
	if err != nil {
		return err
	}
	wanted, unwanted, err := r.changes(ctx, a)
	if err != nil {
		return err
	}
	if a.NetworkChanged {
		if err := s.Remove(unwanted); err != nil {
			return err
		}
	}
	err = s.Put(append(wanted, elements...), func(replace bool) error { return s.Restore(recordElements(ctx, a.All), replace) })
	if err == nil {
		err = conntrack.Forget(s.Socket, staleFlows(a.Attachment, false))
	}
	if err != nil {
		if undo := s.Remove(elements); undo != nil {
			return errors.Join(err, undo, attach.ErrLeft)
		}
	}
	return err
}

// changes are what the network's rules ask for, and what other settings have left: of a
// network without a bridge, whose settings have changed, at all its containers' interfaces.
func (r *Rules) changes(ctx context.Context, a *attach.Adding) (wanted, unwanted []nftnl.Element, err error) {
	wanted, unwanted = r.networkElements()
	wanted = append(wanted, r.gatewayElements(a.Attachment)...)
	if !a.NetworkChanged || r.Group == 0 || a.All == nil {
		return wanted, unwanted, nil
	}
	all, err := a.All(ctx)
	if err != nil && !errors.Is(err, attach.ErrUnreadable) {
		return nil, nil, err
	}
	others := slices.DeleteFunc(slices.Clone(all), func(o *attach.Attachment) bool {
		rules := RulesOf(o)
		return rules == nil || rules.Network() != r.Network() || o.Key == a.Key
	})
	these, not := interfaceElements(others, map[string]*Network{r.Network(): {Rules: *r}})
	return append(wanted, these...), append(unwanted, not...), nil
}

func (nft) del(_ context.Context, r *Rules, a *attach.Attachment) error {
	elements, err := r.containerElements(a)
	if err != nil {
		return nil // Add refused it
	}
	s, err := dial()
	if err != nil {
		return err
	}
	if r.alone() {
		elements = append(elements, s.present(r.ofInterface())...)
	}
	if err := s.Remove(elements); err != nil {
		return err
	}
	return conntrack.Forget(s.Socket, staleFlows(a, true))
}

func (nft) withdraw(_ context.Context, had, has *Rules, before, now *attach.Attachment) error {
	old, err := had.containerElements(before)
	if err != nil {
		return err
	}
	kept, err := has.containerElements(now)
	if err != nil {
		return err
	}
	s, err := dial()
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(e nftnl.Element) bool {
		return slices.ContainsFunc(kept, func(k nftnl.Element) bool { return k.Place() == e.Place() })
	})
	if err := s.Remove(old); err != nil {
		return err
	}
	return conntrack.Forget(s.Socket, goneFlows(before, now))
}

// present are those of the elements that are there. A transaction that the kernel refuses for
// one that is not waits until no packet is in the table (nf_tables_abort in
// net/netfilter/nf_tables_api.c): to ask costs less. What cannot be asked counts as there.
func (s *socket) present(all []nftnl.Element) []nftnl.Element {
	there, err := s.Have(all)
	if err != nil {
		return all
	}
	var found []nftnl.Element
	for i, e := range all {
		if there[i] {
			found = append(found, e)
		}
	}
	return found
}

func (nft) check(_ context.Context, r *Rules, a *attach.Attachment) error {
	elements, err := r.containerElements(a)
	if err != nil {
		return err
	}
	wanted, unwanted := r.networkElements()
	wanted = append(wanted, r.gatewayElements(a)...)
	// A container that links asks for names on a network without, and the records of earlier
	// versions do not say whose the bridge is.
	unwanted = slices.DeleteFunc(unwanted, func(e nftnl.Element) bool { return e.Set == named || e.Set == lan })
	s, err := dial()
	if err != nil {
		return err
	}
	for range 5 {
		if err = s.Verify(append(wanted, elements...), unwanted); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond) // somebody's transaction may be under way
	}
	return err
}

func (nft) removeNetwork(_ context.Context, bridge string) error {
	s, err := dial()
	if err != nil {
		return err
	}
	gateways, err := s.gatewaysOn(bridge)
	return errors.Join(err, s.Remove(append(everyMembership(bridge), gateways...)))
}

// rebuild replaces the table. Which peers may send stays as the agent has it: no
// record knows.
func (nft) rebuild(ctx context.Context, all records) error {
	s, err := dial()
	if err != nil {
		return err
	}
	var guard []nftnl.Element
	for _, set := range append(slices.Clone(guards), tunnelPorts) {
		there, err := s.List(set)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		for _, e := range there {
			guard = append(guard, nftnl.Element{Set: set, Key: e.Key, Value: e.Value, End: e.End, Lasting: true})
		}
	}
	return s.Restore(recordElements(ctx, all), true, guard...)
}

// usable asks for the table: the cheapest question there is.
func (nft) usable() error {
	err := inet.Supported()
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("ask for nftables: %w (it takes CAP_NET_ADMIN)", err)
	case netlink.Refusals(err) != nil:
		return fmt.Errorf("the kernel has no nftables (CONFIG_NF_TABLES_INET): %w", err)
	}
	return err
}
