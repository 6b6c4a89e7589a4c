// Package rebuild makes the records of a host's attachments again, after the state file was
// damaged or removed, or where this version cannot read one of them.
//
// Its sources are, the best first: what can still be read of the file; what runtimes keep
// of their ADDs (libcni's cache), checked against the kernel; and the kernel alone. Of an
// attachment whose key nobody knows any more a record is made that keeps its address and
// its ports from others ([attach.Lost]).
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Config says where to look.
type Config struct {
	Store   *attach.Store
	ConfDir conflist.Dir
	DataDir string   // what the host knows of overlay networks
	Caches  []string // folders in which runtimes keep results; see [Caches]
	Now     func() time.Time
}

// Report is what was done.
type Report struct {
	Kept string // the file that was damaged; empty: there was none
	// File, Caches, Kernel count the records by where they are from. Those of File were
	// there before if nothing was damaged.
	File, Caches, Kernel int
	// Unknown are the records that stand for containers nobody knows.
	Unknown []*attach.Attachment
	// Partly are the keys of records that are not complete, each with what it lacks.
	Partly []string
	// Dropped are the keys of records that are not in the file any more.
	Dropped []string
}

// Run rebuilds the records. Nobody adds or deletes an attachment meanwhile. It may be
// stopped at any moment and run again.
func Run(ctx context.Context, c Config) (*Report, error) {
	report := &Report{}
	out, err := c.Store.Rebuild(ctx, func(old *attach.Salvage) (*attach.Rebuilt, error) {
		b, err := c.look(ctx, old, report)
		if err != nil {
			return nil, err
		}
		return b.rebuild(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("rebuild the records: %w", err)
	}
	report.Kept = out.Kept
	for _, refused := range out.Refused {
		report.Partly = append(report.Partly, refused.Error())
	}
	return report, nil
}

// builder is one rebuild.
type builder struct {
	Config
	report *Report
	old    *attach.Salvage

	found    map[string]link.Found // by hash, as all that follows
	held     map[string]*firewall.Held
	entries  map[string]*entry // of runtimes' caches
	files    []*conflist.File  // the networks' configurations of today
	overlays []*overlay.Local

	records  map[string]*attach.Attachment // by hash
	made     []*attach.Attachment          // those of them that the file has not
	networks map[string]attach.Network     // of those
}

// look looks at everything once.
func (c *Config) look(ctx context.Context, old *attach.Salvage, report *Report) (*builder, error) {
	b := &builder{Config: *c, report: report, old: old, found: map[string]link.Found{}, entries: map[string]*entry{},
		records: map[string]*attach.Attachment{}, networks: map[string]attach.Network{}}
	var errs [3]error
	b.files, _ = c.ConfDir.List() // what is broken there the doctor tells
	b.overlays, _ = overlay.ListLocal(c.DataDir)
	b.held, errs[0] = firewall.ListHeld(ctx)
	cached := readCaches(c.Caches)
	var paths []string
	for _, e := range cached {
		paths = append(paths, e.Netns)
		for _, role := range []attach.Role{attach.Main, attach.Chained, attach.IPAM} {
			k := e.key()
			k.Role = role
			b.entries[k.Hash()] = e
		}
	}
	for _, a := range slices.Concat(old.Records, old.Loose) {
		paths = append(paths, a.Netns)
	}
	all, err := link.Find(append(paths, Namespaces()...))
	if err != nil && len(all) > 0 { // the rest goes by what the firewall has
		report.Partly = append(report.Partly, strings.ReplaceAll(err.Error(), "\n", "; "))
		err = nil
	}
	errs[1] = err
	for _, x := range all {
		b.found[x.Hash] = x
	}
	return b, errors.Join(errs[:]...)
}

// rebuild chooses from the sources, the best first.
func (b *builder) rebuild() *attach.Rebuilt {
	b.keep()
	b.fromLoose()
	b.fromCaches()
	b.fromKernel()
	b.settleWaiting()
	r := &attach.Rebuilt{Records: b.made}
	for _, n := range b.networks {
		r.Networks = append(r.Networks, n)
	}
	for _, k := range b.old.Unreadable {
		if b.records[k.Hash()] == nil {
			b.report.Dropped = append(b.report.Dropped, k.String()+": its record cannot be read, and the kernel has nothing of it")
		}
	}
	return r
}

// keep takes the records that the file leads to, but for those that were deleted while it
// was damaged.
func (b *builder) keep() {
	b.old.Records = slices.DeleteFunc(b.old.Records, func(a *attach.Attachment) bool {
		_, there := b.found[a.Hash()]
		return b.old.Deleted[a.Hash()] && !there
	})
	for _, a := range b.old.Records {
		b.records[a.Hash()] = a
		b.report.File++
	}
}

// add takes a record that the file does not lead to.
func (b *builder) add(a *attach.Attachment) {
	b.records[a.Hash()] = a
	b.made = append(b.made, a)
}

// fromLoose takes records that are somewhere in a damaged file and are as the kernel is.
// The newest of a key counts.
func (b *builder) fromLoose() {
	best := map[string]*attach.Attachment{}
	for _, a := range b.old.Loose {
		if was := best[a.Hash()]; b.records[a.Hash()] == nil && b.agrees(a) && (was == nil || !a.Created.Before(was.Created)) {
			best[a.Hash()] = a
		}
	}
	for _, a := range b.old.Loose {
		if best[a.Hash()] == a {
			b.report.File++
			b.add(a)
		}
	}
}

// agrees tells whether the kernel has what a record says.
func (b *builder) agrees(a *attach.Attachment) bool {
	x, there := b.found[a.Hash()]
	for _, s := range a.Steps {
		switch s.(type) {
		case *link.Veth, *link.Routed, *macvlan.Interface, *ipvlan.Interface:
			return there && (x.Netns == "" || (a.Cookie == 0 || x.Cookie == a.Cookie) && hasAddresses(x, a))
		}
	}
	if firewall.RulesOf(a) != nil {
		return b.held[a.Hash()] != nil
	}
	state, _ := link.StateOf(a, func(string) bool { return false }, b.Now())
	return state == link.Alive && !b.old.Deleted[a.Hash()]
}

func hasAddresses(x link.Found, a *attach.Attachment) bool {
	for _, want := range a.Addresses {
		if !slices.ContainsFunc(x.Addresses, func(have attach.Address) bool { return have.Prefix == want.Prefix }) {
			return false
		}
	}
	return true
}
