package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/link"
)

// CollectOptions say what is removed.
type CollectOptions struct {
	DryRun   bool     // only report
	Networks []string // attachments and leases of these only; none: of all, and what is of no network
	// Unused has the bridges removed, too, of networks that neither a configuration in
	// ConfDir nor a container names.
	Unused  bool
	ConfDir string
	Now     func() time.Time
}

func (o *CollectOptions) wants(network string) bool {
	return len(o.Networks) == 0 || slices.Contains(o.Networks, network)
}

// leftover is something to remove.
type leftover struct {
	what, why string
	remove    func(context.Context) error
}

// collector finds what is left over.
type collector struct {
	*CollectOptions
	store   *attach.Store
	report  func(Event)
	links   Links
	records []*attach.Attachment
	kept    []*attach.Attachment // whose container is not gone
}

// Collect removes what nobody needs any more, and goes on after an error: attachments
// whose namespace is gone, leases without a record, interfaces of the host and elements
// of the firewall that are no attachment's. What is alive, or is being added or
// deleted, is never touched. report is told of what was removed, and of what looks like
// it and was left.
func Collect(ctx context.Context, store *attach.Store, o CollectOptions, report func(Event)) error {
	c := &collector{CollectOptions: &o, store: store, report: report}
	all, errs := c.leftovers(ctx)
	for _, l := range all {
		if o.DryRun {
			report(Event{Surplus, l.what, l.why})
			continue
		}
		if err := l.remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", l.what, err))
			continue
		}
		report(Event{Removed, l.what, l.why})
	}
	return errors.Join(errs...)
}

// leftovers finds them, attachments first: what they had goes with them.
func (c *collector) leftovers(ctx context.Context) (all []leftover, errs []error) {
	var err, unreadable error
	if c.links, err = ListLinks(); err != nil { // before the records: an interface is made after its record
		return nil, []error{err}
	}
	c.records, unreadable = c.store.List(ctx, "")
	all, err = c.gone(ctx)
	errs = append(errs, unreadable, err)
	if unreadable != nil { // what those have that cannot be read is not known
		return all, errs
	}
	lost, err := c.lost(ctx)
	all, errs = append(all, lost...), append(errs, err)
	if len(c.Networks) == 0 {
		all = append(all, c.strayLinks()...)
		if alive := Unrecorded(c.links, c.records); len(alive) > 0 {
			c.report(Event{Left, Some(alive) + ", and the firewall's elements",
				fmt.Sprintf("containers live behind them, of which %s has no record", c.store.Dir())})
		} else {
			all = append(all, c.strayRules(ctx)...)
		}
	}
	if c.Unused {
		unused, err := c.unused(ctx)
		all, errs = append(all, unused...), append(errs, err)
	}
	return all, errs
}

// gone are the records whose namespace has ended.
func (c *collector) gone(ctx context.Context) (all []leftover, err error) {
	end := time.Now().Add(namespaceEnd)
	for _, a := range c.records {
		if !c.wants(a.Network) {
			c.kept = append(c.kept, a)
			continue
		}
		state, why, err := c.finalState(ctx, a, end)
		if err != nil {
			return all, err
		}
		if state != Gone {
			c.kept = append(c.kept, a)
		}
		switch state {
		case Gone:
			all = append(all, leftover{a.Key.String(), why, func(ctx context.Context) error {
				if err := c.store.Del(ctx, a.Key); !errors.Is(err, attach.ErrNotFound) {
					return err
				}
				return nil
			}})
		case Detached, Unknown:
			c.report(Event{Left, a.Key.String(), why})
		}
	}
	return all, nil
}

// namespaceEnd is how long the kernel may take to end a namespace, and with it the
// host's end of its interfaces, after the last mount of it has gone.
const namespaceEnd = time.Second

// finalState is [StateOf] when the kernel has ended what it is about to, and nobody
// works on the attachment any more.
func (c *collector) finalState(ctx context.Context, a *attach.Attachment, end time.Time) (State, string, error) {
	state, why := StateOf(a, c.links, c.Now())
	links := c.links
	for state == Detached && time.Now().Before(end) {
		time.Sleep(20 * time.Millisecond)
		var err error
		if links, err = ListLinks(); err != nil {
			return Unknown, "", err
		}
		state, why = StateOf(a, links, c.Now())
	}
	if state != Gone {
		return state, why, nil
	}
	again, err := c.store.Settle(ctx, a.Key)
	switch {
	case errors.Is(err, attach.ErrNotFound):
		return Alive, "", nil // its own DEL came first
	case err != nil:
		return Unknown, Summary(err), nil
	}
	state, why = StateOf(again, links, c.Now())
	return state, why, nil
}

// lost are the leases without a record. To end one its holder's record is written
// again, with what it holds, and deleted as any other: so nobody adds it meanwhile.
func (c *collector) lost(ctx context.Context) ([]leftover, error) {
	leases, err := LostLeases(ctx, c.store, c.records)
	var all []leftover
	for _, l := range leases {
		if !c.wants(l.Holder.Network) {
			continue
		}
		all = append(all, leftover{fmt.Sprintf("lease of %s on network %s", l.Address, l.Holder.Network),
			fmt.Sprintf("its holder, %s, has no record", l.Holder), func(ctx context.Context) error {
				a := &attach.Attachment{Key: l.Holder, Plugin: "berth gc", Created: c.Now().UTC()}
				a.Leases = append(a.Leases, l.Address)
				if err := c.store.Add(ctx, &attach.Adding{Attachment: a}); err != nil {
					return err
				}
				return c.store.Del(ctx, a.Key)
			}})
	}
	return all, err
}

// strayLinks are interfaces that lead to no container. One that was made since it was
// looked at is another one, with another number.
func (c *collector) strayLinks() []leftover {
	var all []leftover
	for _, l := range StrayLinks(c.links, c.records) {
		all = append(all, leftover{"interface " + l.Name, "it is an attachment's, and none on record", func(context.Context) error {
			now, err := ListLinks()
			if err != nil || now[l.Name].Index != l.Index {
				return err
			}
			return link.Delete(l.Name)
		}})
	}
	return all
}

// strayRules is what the firewall has of attachments without a record: it goes when the
// firewall is made anew from the records. Where nobody can look, it is left alone.
func (c *collector) strayRules(ctx context.Context) []leftover {
	rules, err := ruleset.List(ctx)
	if err != nil {
		return nil
	}
	marks := rules.Unrecorded(c.records)
	if len(marks) == 0 {
		return nil
	}
	return []leftover{{"firewall elements of " + Some(marks), "no attachment on record has that mark", func(ctx context.Context) error {
		return firewall.Rebuild(ctx, func(ctx context.Context) ([]*attach.Attachment, error) { return c.store.List(ctx, "") })
	}}}
}
