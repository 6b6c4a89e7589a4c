package host

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
)

// Bridges are the interfaces that containers with rules are behind, sorted, each with
// what its network is by now.
func Bridges(all []*attach.Attachment) (sorted []string, networks map[string]*firewall.Network) {
	networks = firewall.Networks(all, "")
	return slices.Sorted(maps.Keys(networks)), networks
}

// current are the steps of a record that can be looked at, and made again, by
// themselves. Left out are the addresses of another IPAM plugin, which is a program to
// run for each container and would give others; and what is shared, which is looked at
// once ([SharedBy]). The firewall's step has the settings that its network has by now. What
// others have changed in the container is theirs ([link.Outside]).
func current(a *attach.Attachment, networks map[string]*firewall.Network) []attach.Step {
	var steps []attach.Step
	for _, s := range a.Steps {
		switch step := s.(type) {
		case *ipam.Delegate, attach.Shared:
			continue
		case *firewall.Rules:
			if n := networks[step.Network()]; n != nil {
				s = n.Current(step)
			}
		}
		steps = append(steps, link.Outside(s))
	}
	return steps
}

// Fault is a step of a record that is not as it was made.
type Fault struct {
	Attachment *attach.Attachment
	Kind       string // of the step
	Err        error
}

// MaxRuleFaults is how many faults of the firewall are looked for. One that is not as
// it was made is looked at several times by the backend, and all of it is made anew
// together.
const MaxRuleFaults = 3

// Faults checks the records, which are alive: first what they have in common, then what
// is each one's. Names are left out when no agent answers.
func Faults(ctx context.Context, all []*attach.Attachment, agent bool) []Fault {
	var found []Fault
	for _, s := range SharedBy(all) {
		if err := s.Check(ctx); err != nil {
			found = append(found, Fault{s.Users, s.Step.Kind(), err})
		}
	}
	_, networks := Bridges(all)
	faultyRules := 0
	for _, a := range all {
		for _, s := range current(a, networks) {
			rules, isRules := s.(*firewall.Rules)
			if isRules && rules.Backend == firewall.IPTables { // would run programs for each container
				continue
			}
			_, named := s.(*names.Register)
			if isRules && faultyRules == MaxRuleFaults || named && !agent {
				continue
			}
			if err := s.Check(ctx, a); err != nil {
				found = append(found, Fault{a, s.Kind(), err})
				if isRules {
					faultyRules++
				}
			}
		}
	}
	return found
}

// young is the age of a record whose ADD may still be under way: no runtime waits for
// longer.
const young = time.Minute

// Confirm drops the faults of what somebody is adding, or has deleted, by now.
func Confirm(ctx context.Context, store *attach.Store, found []Fault, now time.Time) []Fault {
	return slices.DeleteFunc(found, func(x Fault) bool {
		get := store.Get
		if now.Sub(x.Attachment.Created) < young {
			get = store.Settle
		}
		a, err := get(ctx, x.Attachment.Key)
		if err != nil || a.Deleting {
			return true
		}
		i := slices.IndexFunc(a.Steps, func(s attach.Step) bool { return s.Kind() == x.Kind })
		return now.Sub(a.Created) < young && (i < 0 || link.Outside(a.Steps[i]).Check(ctx, a) == nil)
	})
}
