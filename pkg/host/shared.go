package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/link"
)

// Shared is one thing that attachments have in common, of the host or of a network, and
// that has to be as its step says for as long as there is one of them: forwarding, a
// bridge, its way through other firewalls.
type Shared struct {
	Step attach.Shared
	// Users stands for all that have it in their records: it is the newest of them, with
	// the gateways, and the ports, of all.
	Users    *attach.Attachment
	Networks []string // of which they are

	all []*attach.Attachment // those that have it
}

// SharedBy returns what attachments have in common, each thing once, in the order in
// which one stands on the other. Those that are being deleted do not count.
func SharedBy(all []*attach.Attachment) []*Shared {
	var found []*Shared
	by := map[string]*Shared{}
	for _, a := range all {
		if a.Deleting {
			continue
		}
		for _, step := range sharedSteps(a) {
			s := by[step.Place()]
			if s == nil {
				s = &Shared{}
				by[step.Place()] = s
				found = append(found, s)
			}
			s.join(step, a)
		}
	}
	slices.SortStableFunc(found, func(x, y *Shared) int { return rank(x.Step) - rank(y.Step) })
	return found
}

// rank orders what is shared: the host's comes before a network's, and a bridge after
// what lets it through, so that no packet of it is lost for that.
func rank(s attach.Shared) int {
	switch s.(type) {
	case *link.Forwarding:
		return 0
	case *allow.Forward:
		return 1
	case *firewall.Hairpin:
		return 3
	}
	return 2
}

// sharedSteps are those of a record. An earlier version wrote them into the record of a
// network's first attachment alone, or not at all.
func sharedSteps(a *attach.Attachment) (steps []attach.Shared) {
	var forwarding, forward, hairpin bool
	var bridge *link.Bridge
	rules := firewall.RulesOf(a)
	for _, s := range a.Steps {
		switch step := s.(type) {
		case *link.Forwarding:
			forwarding = true
		case *allow.Forward:
			forward = true
			if rules != nil && step.Tunnel != rules.Overlay {
				now := *step
				now.Tunnel = rules.Overlay
				s = &now
			}
		case *firewall.Hairpin:
			hairpin = true
		case *link.Bridge:
			bridge = step
		}
		if shared, ok := s.(attach.Shared); ok {
			steps = append(steps, shared)
		}
	}
	if bridge == nil {
		return steps
	}
	if !forwarding {
		steps = append(steps, &link.Forwarding{Gateway: bridge.Gateway})
	}
	if rules != nil && !hairpin && !rules.Own {
		steps = append(steps, &firewall.Hairpin{Backend: rules.Backend, Bridge: rules.Bridge})
	}
	if rules != nil && !forward {
		steps = append(steps, &allow.Forward{Bridge: rules.Bridge, Tunnel: rules.Overlay, Names: rules.Names})
	}
	return steps
}

// join adds a user.
func (s *Shared) join(step attach.Shared, a *attach.Attachment) {
	s.all = append(s.all, a)
	if !slices.Contains(s.Networks, a.Network) {
		s.Networks = append(s.Networks, a.Network)
	}
	if s.Users == nil {
		users := *a
		users.Addresses, users.Ports = slices.Clone(a.Addresses), slices.Clone(a.Ports)
		s.Step, s.Users = step, &users
		return
	}
	addresses, ports := s.Users.Addresses, append(s.Users.Ports, a.Ports...)
	for _, addr := range a.Addresses {
		if !slices.ContainsFunc(addresses, func(have attach.Address) bool {
			return have.Gateway == addr.Gateway && have.Prefix.Masked() == addr.Prefix.Masked()
		}) {
			addresses = append(addresses, addr)
		}
	}
	if newer := !a.Created.Before(s.Users.Created); newer {
		users := *a
		s.Users, s.Step = &users, step.Join(s.Step)
	} else {
		s.Step = s.Step.Join(step)
	}
	s.Users.Addresses, s.Users.Ports = addresses, ports
}

// Check tells whether it is as it has to be.
func (s *Shared) Check(ctx context.Context) error { return s.Step.Check(ctx, s.Users) }

// Restore makes it as it has to be.
func (s *Shared) Restore(ctx context.Context) error {
	users := *s.Users
	a := &attach.Adding{Attachment: &users, All: func(context.Context) ([]*attach.Attachment, error) { return s.all, nil }}
	restore := s.Step.Add
	if r, ok := s.Step.(attach.Repairer); ok {
		restore = r.Repair
	}
	return errors.Join(restore(ctx, a), s.Check(ctx))
}

// String names it for people.
func (s *Shared) String() string {
	if _, ok := s.Step.(*link.Forwarding); ok {
		return "forwarding"
	}
	return fmt.Sprintf("network %s: %s", Some(s.Networks), s.Step.Place())
}
