package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/spf13/cobra"
)

func (p *program) reloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload [flags] [NETWORK...]",
		Short: "Put back what somebody took away from containers",
		Long: `Compare everything that the containers of this host were given with their records,
and put back what is missing: after 'nft flush ruleset', a reload of firewalld, a
bridge or an interface that somebody deleted, an agent that has ended. Without names
of networks, all of them.

The firewall is made anew as a whole, with nftables in one transaction in which no
packet sees a gap. It is that of all networks, whichever are named. What is in order
is not touched otherwise, and no container is restarted. A container whose interface
has to be made again loses its connections for that moment.

One line is written for each container that something was wrong with. Containers whose
namespace is gone are left to 'berth gc'. Addresses of another IPAM plugin are left as
they are.

` + exitCodes,
		Example: `  nft flush ruleset; berth reload
  berth reload blue green`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			return p.reload(c.Context(), args, p.out)
		},
	}
	p.settings.recordsFlag(c.Flags())
	return c
}

// reloader puts back. What it does is said in lines.
type reloader struct {
	store   *attach.Store
	out     io.Writer
	records []*attach.Attachment // alive, of all networks
	newest  map[string]*attach.Attachment
	wanted  func(network string) bool
	// partial says that there are records that cannot be read. Then the firewall is
	// not made anew: it would lose what their containers have.
	partial bool
	failed  int
}

// reload puts back what is missing on these networks, or on all.
func (p *program) reload(ctx context.Context, networks []string, out io.Writer) error {
	r := &reloader{store: p.hostStore(), out: out, wanted: func(n string) bool { return len(networks) == 0 || slices.Contains(networks, n) }}
	all, err := r.store.List(ctx, "")
	if err != nil && !errors.Is(err, attach.ErrUnreadable) {
		return err
	}
	if unknown := onNobody(networks, all); len(unknown) > 0 {
		return fmt.Errorf("no container of this host is on %s", strings.Join(unknown, ", "))
	}
	if err != nil {
		r.say("NOT put back: %s", oneLine(err))
		r.partial = true
		r.failed++
	}
	links, err := hostLinks()
	if err != nil {
		return err
	}
	byName := linksByName(links)
	for _, a := range all {
		switch state, why := fateOf(a, byName, p.now()); {
		case a.Going && r.wanted(a.Network):
			r.say("left:     %s: it is being deleted", a.Key)
		case state == alive && !a.Going:
			r.records = append(r.records, a)
		case r.wanted(a.Network) && !a.Going:
			r.say("left:     %s: %s", a.Key, why)
		}
	}
	return r.run(ctx)
}

// onNobody are the networks that no record is of.
func onNobody(networks []string, all []*attach.Attachment) (unknown []string) {
	for _, n := range networks {
		if !slices.ContainsFunc(all, func(a *attach.Attachment) bool { return a.Network == n }) {
			unknown = append(unknown, n)
		}
	}
	return unknown
}

func (r *reloader) say(format string, args ...any) {
	fmt.Fprintf(r.out, format+"\n", args...)
}

// run puts back what many share first, since the rest stands on it.
func (r *reloader) run(ctx context.Context) error {
	var bridges []string
	bridges, r.newest = bridgesOf(r.records)
	r.openFirewalls(ctx, bridges)
	for _, a := range r.records {
		if r.wanted(a.Network) {
			r.container(ctx, a)
		}
	}
	r.firewall(ctx) // last: what was made anew may have taken rules with it
	if r.failed > 0 {
		return fmt.Errorf("%d could not be put back", r.failed)
	}
	return nil
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
		r.failed++
		r.say("NOT put back: the firewall: %v", err)
		return
	}
	with := 0
	for _, a := range r.records {
		if rulesIn(a) != nil {
			with++
		}
	}
	r.say("put back: the firewall, for %d containers: %s", with, why)
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
		for _, s := range settled(a, r.newest).Steps {
			if _, ok := s.(*firewall.Rules); !ok {
				continue
			}
			err := s.Check(ctx, a)
			if err == nil {
				continue
			}
			if gone, _ := r.gone(ctx, a); !gone { // or it was deleted since it was listed
				return oneLine(err)
			}
		}
	}
	filters, err := hostFilters(ctx)
	if err != nil {
		return "" // there is no telling
	}
	links, err := hostLinks() // before the records: an interface is made after its record
	if err != nil {
		return ""
	}
	all, err := r.store.List(ctx, "")
	if len(unrecorded(links, all)) > 0 {
		return "" // what is not on record here may be theirs
	}
	if strangers := filters.strangers(all); err == nil && len(strangers) > 0 {
		return fmt.Sprintf("it had elements of %d attachments without a record", len(strangers))
	}
	return ""
}

// oneLine is the first line of an error, which says most.
func oneLine(err error) string {
	first, rest, more := strings.Cut(err.Error(), "\n")
	if more {
		return fmt.Sprintf("%s, and %d more", first, strings.Count(rest, "\n")+1)
	}
	return first
}

// openFirewalls has the host's other firewalls let the bridges through.
func (r *reloader) openFirewalls(ctx context.Context, bridges []string) {
	for _, bridge := range bridges {
		if !r.wanted(r.newest[bridge].Network) {
			continue
		}
		step := &firewall.Forward{Bridge: bridge, Names: asks(r.records, bridge)}
		why := step.Check(ctx, nil)
		if why == nil {
			continue
		}
		err := step.Add(ctx, nil)
		if err == nil {
			err = step.Check(ctx, nil)
		}
		if err != nil {
			r.failed++
			r.say("NOT put back: bridge %s: %v", bridge, err)
			continue
		}
		r.say("put back: bridge %s: %s", bridge, oneLine(why))
	}
}

// container puts back what is one container's, but for its rules, which the firewall
// gets all together where it can.
func (r *reloader) container(ctx context.Context, a *attach.Attachment) {
	if attach.Check(ctx, r.steps(a)) == nil {
		return
	}
	a, err := settle(ctx, r.store, a.Key) // or an ADD has not come as far yet
	switch {
	case errors.Is(err, attach.ErrNotFound) || err == nil && a.Going:
		return
	case err != nil:
		r.say("left:     %v", err)
		return
	}
	mine := r.steps(a)
	why := attach.Check(ctx, mine)
	if why == nil {
		return
	}
	err = attach.Reload(ctx, &attach.Adding{Attachment: mine, All: r.readable})
	if err == nil {
		err = attach.Check(ctx, mine)
	}
	switch gone, left := r.gone(ctx, a); {
	case left != nil:
		err = errors.Join(err, left)
	case gone:
		// It was deleted meanwhile: what was made again here goes, too. What is absent
		// counts as deleted.
		err = nil
		for _, s := range slices.Backward(mine.Steps) {
			err = errors.Join(err, s.Del(ctx, mine))
		}
		if err == nil {
			r.say("left:     %s: it was deleted meanwhile", a.Key)
			return
		}
	}
	if err != nil {
		r.failed++
		r.say("NOT put back: %s: %s", a.Key, strings.ReplaceAll(err.Error(), "\n", "\n              "))
		return
	}
	r.say("put back: %s: %s", a.Key, oneLine(why))
}

// steps is the record with what is put back for one container alone.
func (r *reloader) steps(a *attach.Attachment) *attach.Attachment {
	mine := settled(a, r.newest)
	mine.Steps = slices.DeleteFunc(mine.Steps, func(s attach.Step) bool {
		_, rules := s.(*firewall.Rules)
		return rules && !r.partial
	})
	return mine
}

// gone tells whether the attachment has no record any more, or is being deleted. One
// that was deleted and added again is not gone: what it has is its own.
func (r *reloader) gone(ctx context.Context, a *attach.Attachment) (bool, error) {
	now, err := r.store.Get(ctx, a.Key)
	if errors.Is(err, attach.ErrNotFound) {
		return true, nil
	}
	return err == nil && now.Going, err
}

// strangers are the marks of our own elements and rules that no record has.
func (f *filters) strangers(all []*attach.Attachment) []string {
	known := map[string]bool{}
	for _, a := range all {
		known[a.Hash()] = true
	}
	var found []string
	for mark := range f.Marks {
		if !known[mark] && isHash(mark) {
			found = append(found, mark)
		}
	}
	slices.Sort(found)
	return found
}
