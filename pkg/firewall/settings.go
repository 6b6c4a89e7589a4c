package firewall

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
)

// Network is what the containers behind one bridge, or in one interface group, have by now,
// of all their records.
type Network struct {
	// Newest is the attachment whose settings hold for all.
	Newest *attach.Attachment
	// Rules are its rules. Names are asked for as soon as one container asks: it may be
	// the only one that links.
	Rules Rules
}

// Network names the network among those of [Networks].
func (r *Rules) Network() string {
	if r.Group != 0 {
		return fmt.Sprintf("group %d", r.Group)
	}
	return r.Bridge
}

// Networks merges the rules of the attachments by network ([Rules.Network]), of one backend, or of all
// when it is empty. One that is being deleted does not count.
func Networks(all []*attach.Attachment, backend string) map[string]*Network {
	by := map[string]*Network{}
	for _, a := range all {
		r := RulesOf(a)
		if r == nil || a.Deleting || backend != "" && r.Backend != backend {
			continue
		}
		n := by[r.Network()]
		if n == nil {
			n = &Network{}
			by[r.Network()] = n
		}
		names := n.Rules.Names || r.Names
		if n.Newest == nil || !a.Created.Before(n.Newest.Created) {
			n.Newest, n.Rules = a, *r
		}
		n.Rules.Names = names
	}
	return by
}

// Current returns the rules of one of the network's containers with the settings that
// the network has by now. Whether it asks for names stays.
func (n *Network) Current(r *Rules) *Rules {
	now := *r
	now.Internal, now.Isolate, now.NoICC = n.Rules.Internal, n.Rules.Isolate, n.Rules.NoICC
	now.Mode4, now.Mode6 = n.Rules.Mode4, n.Rules.Mode6
	return &now
}

// joined are the rules with what the other containers behind the bridge ask for: names, of
// which this one may be the only one that does not.
func (r *Rules) joined(ctx context.Context, a *attach.Adding) (*Rules, error) {
	if r.Names || !a.NetworkChanged || a.All == nil {
		return r, nil
	}
	all, err := a.All(ctx)
	if err != nil && !errors.Is(err, attach.ErrUnreadable) {
		return nil, err
	}
	if n := Networks(all, r.Backend)[r.Network()]; n == nil || !n.Rules.Names {
		return r, nil
	}
	now := *r
	now.Names = true
	return &now, nil
}

// RulesOf returns the firewall's step of a record; nil when it has none.
func RulesOf(a *attach.Attachment) *Rules {
	for _, s := range a.Steps {
		if r, ok := s.(*Rules); ok {
			return r
		}
	}
	return nil
}
