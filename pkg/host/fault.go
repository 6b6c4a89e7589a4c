package host

import (
	"context"
	"fmt"
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
// run for each container and would give others; and what is of the network, which is
// looked at once for each bridge. The firewall's step has the settings that its network
// has by now.
func current(a *attach.Attachment, networks map[string]*firewall.Network) []attach.Step {
	var steps []attach.Step
	for _, s := range a.Steps {
		switch step := s.(type) {
		case *ipam.Delegate, *firewall.Forward:
			continue
		case *firewall.Rules:
			if n := networks[step.Bridge]; n != nil {
				s = n.Current(step)
			}
		}
		steps = append(steps, s)
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

// Faults checks the records, which are alive: what containers share once for those of
// one kind. Names are left out when no agent answers.
func Faults(ctx context.Context, all []*attach.Attachment, agent bool) []Fault {
	var found []Fault
	_, networks := Bridges(all)
	faultyRules, checked := 0, map[string]bool{}
	for _, a := range all {
		for _, s := range current(a, networks) {
			if b, ok := s.(*link.Bridge); ok {
				kind := bridgeKind(b, a)
				if checked[kind] {
					continue
				}
				checked[kind] = true
			}
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

// bridgeKind is the same for attachments that ask the same of one bridge.
func bridgeKind(b *link.Bridge, a *attach.Attachment) string {
	kind := fmt.Sprint(*b)
	for _, addr := range a.Addresses {
		kind += fmt.Sprint(addr.Gateway, addr.Prefix.Bits())
	}
	return kind
}

// Confirm drops the faults of what somebody is adding, or has deleted, by now.
func Confirm(ctx context.Context, store *attach.Store, found []Fault, now time.Time) []Fault {
	return slices.DeleteFunc(found, func(x Fault) bool {
		get := store.Get
		if now.Sub(x.Attachment.Created) < young {
			get = store.Settle
		}
		a, err := get(ctx, x.Attachment.Key)
		if err != nil || a.Going {
			return true
		}
		i := slices.IndexFunc(a.Steps, func(s attach.Step) bool { return s.Kind() == x.Kind })
		return now.Sub(a.Created) < young && (i < 0 || a.Steps[i].Check(ctx, a) == nil)
	})
}
