package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
)

// ReloadOptions say what is put back.
type ReloadOptions struct {
	Networks []string // of these; none: of all
	Now      time.Time
}

// reloader puts back what somebody took away.
type reloader struct {
	store    *attach.Store
	wanted   func(network string) bool
	report   func(Event)
	records  []*attach.Attachment // alive, of all networks
	networks map[string]*firewall.Network
	// partial says that there are records that cannot be read. Then the firewall is
	// not made anew: it would lose what their containers have.
	partial bool
	failed  int
}

// Reload compares what the containers of this host were given with their records, and
// puts back what is missing. What is in order is not touched. report is told of each
// thing that was not; the error says how many could not be put back.
func Reload(ctx context.Context, store *attach.Store, o ReloadOptions, report func(Event)) error {
	r := &reloader{store: store, report: report,
		wanted: func(n string) bool { return len(o.Networks) == 0 || slices.Contains(o.Networks, n) }}
	all, err := store.List(ctx, "")
	if err != nil && !errors.Is(err, attach.ErrUnreadable) {
		return err
	}
	if unknown := withoutRecords(o.Networks, all); len(unknown) > 0 {
		return fmt.Errorf("no container of this host is on %s", strings.Join(unknown, ", "))
	}
	if err != nil {
		r.partial = true
		r.fail(Summary(err), "")
	}
	links, err := ListLinks()
	if err != nil {
		return err
	}
	for _, a := range all {
		switch state, why := StateOf(a, links, o.Now); {
		case a.Deleting && r.wanted(a.Network):
			report(Event{Left, a.Key.String(), "it is being deleted"})
		case state == Alive && !a.Deleting:
			r.records = append(r.records, a)
		case r.wanted(a.Network) && !a.Deleting:
			report(Event{Left, a.Key.String(), why})
		}
	}
	return r.run(ctx)
}

// withoutRecords are the networks that no record is of.
func withoutRecords(networks []string, all []*attach.Attachment) (unknown []string) {
	for _, n := range networks {
		if !slices.ContainsFunc(all, func(a *attach.Attachment) bool { return a.Network == n }) {
			unknown = append(unknown, n)
		}
	}
	return unknown
}

func (r *reloader) fail(what, why string) {
	r.failed++
	r.report(Event{NotRestored, what, why})
}

// run puts back what many share first, since the rest stands on it.
func (r *reloader) run(ctx context.Context) error {
	_, r.networks = Bridges(r.records)
	r.shared(ctx)
	for _, a := range r.records {
		if r.wanted(a.Network) {
			r.attachment(ctx, a)
		}
	}
	r.firewall(ctx) // last: what was made anew may have taken rules with it
	if r.failed > 0 {
		return fmt.Errorf("%d could not be put back", r.failed)
	}
	return nil
}

// shared puts back what the containers of these networks have in common.
func (r *reloader) shared(ctx context.Context) {
	for _, s := range SharedBy(r.records) {
		if !slices.ContainsFunc(s.Networks, r.wanted) {
			continue
		}
		missing := s.Check(ctx)
		if missing == nil {
			continue
		}
		if err := s.Restore(ctx); err != nil {
			r.fail(s.String(), err.Error())
			continue
		}
		r.report(Event{Restored, s.String(), Summary(missing)})
	}
}

// attachment puts back what is one container's, but for its rules, which the firewall
// gets all together where it can.
func (r *reloader) attachment(ctx context.Context, a *attach.Attachment) {
	look := *a
	if look.Steps = r.steps(a); attach.Check(ctx, &look) == nil {
		return
	}
	missing, err := r.store.Reload(ctx, a.Key, r.steps)
	switch {
	case errors.Is(err, attach.ErrNotFound): // it was deleted meanwhile
	case errors.Is(err, attach.ErrBusy):
		r.report(Event{Action: Left, What: err.Error()})
	case err != nil:
		r.fail(a.Key.String(), err.Error())
	case missing != nil: // else an ADD had not come as far yet
		r.report(Event{Restored, a.Key.String(), Summary(missing)})
	}
}

// steps are what is put back for one container alone.
func (r *reloader) steps(a *attach.Attachment) []attach.Step {
	return slices.DeleteFunc(current(a, r.networks), func(s attach.Step) bool {
		_, rules := s.(*firewall.Rules)
		return rules && !r.partial
	})
}

// firewall makes the firewall anew when anything of it is missing, or of nobody.
func (r *reloader) firewall(ctx context.Context) {
	why := r.firewallFault(ctx)
	if why == "" || r.partial {
		return
	}
	err := firewall.Rebuild(ctx, r.readable)
	if err == nil {
		if left := r.firewallFault(ctx); left != "" {
			err = errors.New(left)
		}
	}
	if err != nil {
		r.fail("the firewall", err.Error())
		return
	}
	with := 0
	for _, a := range r.records {
		if firewall.RulesOf(a) != nil {
			with++
		}
	}
	r.report(Event{Restored, fmt.Sprintf("the firewall, for %d containers", with), why})
}

// readable lists the records that this version can read.
func (r *reloader) readable(ctx context.Context) ([]*attach.Attachment, error) {
	all, err := r.store.List(ctx, "")
	if errors.Is(err, attach.ErrUnreadable) {
		err = nil
	}
	return all, err
}

// firewallFault is the first thing that is wrong with the firewall, in one line; empty
// when all is well.
func (r *reloader) firewallFault(ctx context.Context) string {
	for _, a := range r.records {
		for _, s := range current(a, r.networks) {
			if _, ok := s.(*firewall.Rules); !ok {
				continue
			}
			if err := s.Check(ctx, a); err != nil && !r.deleted(ctx, a) {
				return Summary(err)
			}
		}
	}
	rules, err := ruleset.List(ctx)
	if err != nil {
		return "" // there is no telling
	}
	links, err := ListLinks() // before the records: an interface is made after its record
	if err != nil {
		return ""
	}
	all, err := r.store.List(ctx, "")
	if err != nil || len(Unrecorded(links, all)) > 0 {
		return "" // what is not on record here may be theirs
	}
	if unknown := rules.Unrecorded(all); len(unknown) > 0 {
		return fmt.Sprintf("it had elements of %d attachments without a record", len(unknown))
	}
	return ""
}

// deleted tells whether the attachment has no record any more, or is being deleted. One
// that was deleted and added again is not: what it has is its own.
func (r *reloader) deleted(ctx context.Context, a *attach.Attachment) bool {
	now, err := r.store.Get(ctx, a.Key)
	return errors.Is(err, attach.ErrNotFound) || err == nil && now.Deleting
}
