package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/spf13/cobra"
)

func (p *program) gcCommand() *cobra.Command {
	var o gcOptions
	c := &cobra.Command{
		Use:   "gc [flags] [NETWORK...]",
		Short: "Remove what containers that are gone have left",
		Long: `Remove what nobody needs any more, and say what and why:

  attachments whose namespace is gone, or whose path leads to another namespace by now
  leases whose holder has no record
  interfaces of the host that were a container's (veth and 11 letters or digits)
  elements and rules of our firewall that are no container's

With names of networks, only the attachments and leases of those. With --networks also
the bridges of networks that have no configuration and no container any more.

What is alive is never touched: a container whose path leads to the namespace that was
attached, one whose namespace goes on without its path, and one that is being added or
deleted. Run it where the runtime runs: elsewhere the paths of the namespaces are not
to be seen.

` + exitCodes,
		Example: `  berth gc --dry-run
  berth gc
  berth gc --networks blue`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			o.only, o.netDir = args, netDirOf(c)
			return p.collect(c.Context(), &o, p.out)
		},
	}
	addFlag(c.Flags(), onOff(&o.dry), "dry-run", "only say what would be removed")
	addFlag(c.Flags(), onOff(&o.networks), "networks", "also bridges of networks without a configuration and without containers")
	c.Flags().SortFlags = false
	addFlag(c.Flags(), text(&p.settings.netDir, "folder", netDirOf(c), nil), "net-dir", "the CNI configurations of this host, for --networks")
	p.settings.recordsFlag(c.Flags())
	return c
}

type gcOptions struct {
	dry, networks bool
	only          []string // networks; none: all
	netDir        string
}

func (o *gcOptions) wants(network string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, network)
}

// leftover is something to remove.
type leftover struct {
	what, why string
	remove    func(context.Context) error
}

// collect removes what is left over, and goes on after an error.
func (p *program) collect(ctx context.Context, o *gcOptions, out io.Writer) error {
	all, errs := p.leftovers(ctx, o, out)
	for _, l := range all {
		if o.dry {
			fmt.Fprintf(out, "would remove %s: %s\n", l.what, l.why)
			continue
		}
		if err := l.remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", l.what, err))
			continue
		}
		fmt.Fprintf(out, "removed %s: %s\n", l.what, l.why)
	}
	return errors.Join(errs...)
}

// cleanup is how long the kernel may take to end a namespace, and with it the host's
// end of its interfaces, after the last mount of it has gone.
const cleanup = time.Second

// leftovers finds them, attachments first: what they had goes with them.
func (p *program) leftovers(ctx context.Context, o *gcOptions, out io.Writer) (all []leftover, errs []error) {
	store := p.hostStore()
	links, err := hostLinks() // before the records: an interface is made after its record
	if err != nil {
		return nil, []error{err}
	}
	records, unreadable := store.List(ctx, "")
	all, kept, err := p.goneRecords(ctx, o, records, linksByName(links), out)
	errs = append(errs, unreadable, err)
	if unreadable != nil { // what those have that cannot be read is not known
		return all, errs
	}
	lost, err := p.lost(ctx, store, o, records)
	all, errs = append(all, lost...), append(errs, err)
	if len(o.only) == 0 {
		all = append(all, strayLinks(links, records)...)
		if alive := unrecorded(links, records); len(alive) > 0 {
			fmt.Fprintf(out, "left %s, and the firewall's elements: containers live behind them, of which %s has no record\n", some(alive), store.Dir())
		} else {
			all = append(all, strayRules(ctx, store, records)...)
		}
	}
	if o.networks {
		unused, err := unusedNetworks(ctx, store, o, kept)
		all, errs = append(all, unused...), append(errs, err)
	}
	return all, errs
}

// goneRecords are those whose namespace is gone; kept are the others.
func (p *program) goneRecords(ctx context.Context, o *gcOptions, records []*attach.Attachment, links map[string]hostLink, out io.Writer) (all []leftover, kept []*attach.Attachment, err error) {
	store, end := p.hostStore(), time.Now().Add(cleanup)
	for _, a := range records {
		if !o.wants(a.Network) {
			kept = append(kept, a)
			continue
		}
		state, why, err := p.lastFate(ctx, store, a, links, end)
		if err != nil {
			return all, kept, err
		}
		if state != dead {
			kept = append(kept, a)
		}
		switch state {
		case dead:
			all = append(all, leftover{a.Key.String(), why, func(ctx context.Context) error {
				if err := store.Del(ctx, a.Key); !errors.Is(err, attach.ErrNotFound) {
					return err
				}
				return nil
			}})
		case without, unknown:
			fmt.Fprintf(out, "left %s: %s\n", a.Key, why)
		}
	}
	return all, kept, nil
}

// lastFate is [fateOf] when the kernel has ended what it is about to, and nobody works
// on the attachment any more.
func (p *program) lastFate(ctx context.Context, store *attach.Store, a *attach.Attachment, links map[string]hostLink, end time.Time) (fate, string, error) {
	state, why := fateOf(a, links, p.now())
	for state == without && time.Now().Before(end) {
		time.Sleep(20 * time.Millisecond)
		now, err := hostLinks()
		if err != nil {
			return unknown, "", err
		}
		links = linksByName(now)
		state, why = fateOf(a, links, p.now())
	}
	if state != dead {
		return state, why, nil
	}
	again, err := settle(ctx, store, a.Key)
	switch {
	case errors.Is(err, attach.ErrNotFound):
		return alive, "", nil // its own DEL came first
	case err != nil:
		return unknown, oneLine(err), nil
	}
	state, why = fateOf(again, links, p.now())
	return state, why, nil
}

// lost are the leases without a record. To end one its holder's record is written
// again, with what it holds, and deleted as any other: so nobody adds it meanwhile.
func (p *program) lost(ctx context.Context, store *attach.Store, o *gcOptions, records []*attach.Attachment) ([]leftover, error) {
	leases, err := lostLeases(ctx, store, records)
	var all []leftover
	for _, l := range leases {
		if !o.wants(l.Holder.Network) {
			continue
		}
		all = append(all, leftover{fmt.Sprintf("lease of %s on network %s", l.Address, l.Holder.Network),
			fmt.Sprintf("its holder, %s, has no record", l.Holder), func(ctx context.Context) error {
				a := &attach.Attachment{Key: l.Holder, Plugin: "berth gc", Created: p.now().UTC()}
				a.Leases = append(a.Leases, l.Address)
				if err := store.Add(ctx, &attach.Adding{Attachment: a}, func(*attach.Tx) error { return nil }); err != nil {
					return err
				}
				return store.Del(ctx, a.Key)
			}})
	}
	return all, err
}

const vethPrefix = "veth"

// withoutRecord are interfaces with the name of an attachment's that no record has.
func withoutRecord(links []hostLink, records []*attach.Attachment) (all []hostLink) {
	known := map[string]bool{}
	for _, a := range records {
		known[a.HostIfName()] = true
	}
	for _, l := range links {
		if hash, ok := strings.CutPrefix(l.name, vethPrefix); ok && l.kind == "veth" && isHash(hash) && !known[l.name] {
			all = append(all, l)
		}
	}
	return all
}

// unrecorded are those of them that lead to a container which lives: a namespace that
// ends takes its interfaces along. Its record is in another state folder, or lost.
func unrecorded(links []hostLink, records []*attach.Attachment) (names []string) {
	for _, l := range withoutRecord(links, records) {
		if l.away {
			names = append(names, l.name)
		}
	}
	return names
}

// strayLinks are those that lead to no container. One that was made since it was looked
// at is another one, with another number.
func strayLinks(links []hostLink, records []*attach.Attachment) []leftover {
	var all []leftover
	for _, l := range withoutRecord(links, records) {
		if l.away {
			continue
		}
		all = append(all, leftover{"interface " + l.name, "it is an attachment's, and none on record", func(context.Context) error {
			if now, err := net.InterfaceByName(l.name); err != nil || now.Index != l.index {
				return nil
			}
			return link.Delete(l.name)
		}})
	}
	return all
}

// strayRules is what the firewall has of attachments without a record: it goes when the
// firewall is made anew from the records. Where nobody can look, it is left alone.
func strayRules(ctx context.Context, store *attach.Store, records []*attach.Attachment) []leftover {
	filters, err := hostFilters(ctx)
	if err != nil {
		return nil
	}
	strangers := filters.strangers(records)
	if len(strangers) == 0 {
		return nil
	}
	return []leftover{{"firewall elements of " + some(strangers), "no attachment on record has that mark", func(ctx context.Context) error {
		return firewall.Rebuild(ctx, func(ctx context.Context) ([]*attach.Attachment, error) { return store.List(ctx, "") })
	}}}
}

// unusedNetworks are those that no configuration and no record names. A bridge that
// has a port is somebody's, and stays.
func unusedNetworks(ctx context.Context, store *attach.Store, o *gcOptions, records []*attach.Attachment) ([]leftover, error) {
	files, err := networkFiles(o.netDir)
	if err != nil {
		return nil, err
	}
	var networks []attach.Network
	if err := store.View(ctx, func(tx *attach.Tx) (err error) { networks, err = tx.Networks(); return err }); err != nil {
		return nil, err
	}
	users := func(link string) (n int) {
		for _, other := range networks {
			if other.Link == link {
				n++
			}
		}
		return n
	}
	var all []leftover
	for _, n := range networks {
		used := slices.ContainsFunc(records, func(a *attach.Attachment) bool { return a.Network == n.Name })
		if used || files[n.Name] || !o.wants(n.Name) || n.Plugin != driverBridge || users(n.Link) != 1 {
			continue
		}
		all = append(all, leftover{fmt.Sprintf("network %s with bridge %s", n.Name, n.Link), "it has no configuration in " + o.netDir + " and no container",
			func(ctx context.Context) error { return removeNetwork(ctx, store, n) }})
	}
	return all, nil
}

// networkFiles are the names of the networks that runtimes of this host know.
func networkFiles(dir string) (map[string]bool, error) {
	all, err := conflist.Dir(dir).List()
	files := map[string]bool{}
	for _, f := range all {
		files[f.Name] = true
	}
	return files, err
}

// removeNetwork removes what the containers of a network shared.
func removeNetwork(ctx context.Context, store *attach.Store, n attach.Network) error {
	links, err := hostLinks()
	if err != nil {
		return err
	}
	if br, ok := linkNamed(links, n.Link); ok {
		if br.kind != "bridge" || slices.ContainsFunc(links, func(l hostLink) bool { return l.master == br.index }) {
			return fmt.Errorf("interface %s is no bridge, or has ports: somebody uses it", n.Link)
		}
		if err := link.Delete(n.Link); err != nil {
			return err
		}
	}
	backend, err := firewall.Choose("auto")
	if err != nil {
		return err
	}
	return errors.Join(
		firewall.RemoveNetwork(ctx, backend, n.Link),
		(&firewall.Forward{Bridge: n.Link}).Remove(ctx),
		store.Update(ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(n.Name) }))
}
