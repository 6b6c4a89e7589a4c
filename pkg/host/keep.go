package host

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/watch"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// Keeper keeps what attachments have in common as it has to be, for as long as it runs:
// it compares when the kernel tells of a change, and at each tick what the kernel does
// not tell of.
type Keeper struct {
	Records *attach.Store
	// Rules puts back our own table of the firewall, after somebody damaged it; nil where
	// somebody else does.
	Rules func(context.Context) error
	// ConfDir has the CNI configurations of this host: what is left of a network goes
	// when its own does. Empty: nothing goes.
	ConfDir string
	// DataDir has what the host knows of overlay networks; empty: nothing.
	DataDir string
	// Names are those that containers of this host are found by; nil where nobody keeps any.
	Names Names
	Log   *slog.Logger

	all    []*attach.Attachment // that are there, as of the last look at the records
	made   []*attach.Attachment // those of them that no ADD or DEL was about then
	shared []*Shared            // by all; not what an ADD under way is the first to make
	again  bool                 // rules of iptables may be missing still
	said   map[string]string
	stamp  string // of the records, when they were read
	ticks  int
	inRow  int // how often something was put back, without a time between at which nothing was missing

	configured map[string]bool // networks in ConfDir, as of the last tick
	removed    []string        // those that were there before
}

// Names are the names of this host's attachments.
type Names interface {
	Has(attach.Key) bool
	Forget(attach.Key)
	// Know makes these all networks that are known beside those of the containers.
	Know([]names.Network)
}

const (
	// tick is how often everything is compared.
	tick = 5 * time.Second
	// calm is how long somebody who changes the kernel is left to it before it is
	// compared: a restarted network manager makes many changes.
	calm = 20 * time.Millisecond
	// portion is the part of a core that comparing may take, one in so many.
	portion = 20
	// unheard is after how many ticks the records are read again when nobody has written
	// any: a container may have ended without a DEL.
	unheard = 12
	// fight is how often in a row something is put back before it takes longer and longer:
	// two programs that each want another thing would use up a core.
	fight = 10
)

// Run keeps until the context ends. What cannot be watched is compared at each tick.
func (k *Keeper) Run(ctx context.Context) error {
	rules, err := watch.Rules(ctx)
	if err != nil {
		k.Log.Warn("watch the firewall; it is compared now and then", "error", err)
	}
	changed := make(chan struct{}, 1)
	appeared, ended := make(chan string, 64), make(chan string, 64)
	if w, err := link.Watch(); err != nil {
		k.Log.Warn("watch interfaces; they are compared now and then", "error", err)
	} else {
		defer w.Close()
		go k.hear(ctx, w, changed, appeared, ended)
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for all := true; ctx.Err() == nil; {
		pause := k.compare(ctx, all)
		if all {
			files, err := k.configurations()
			k.tellNetworks(ctx, files)
			if err == nil { // else the doctor tells of it
				k.collectRemoved(ctx, files)
			}
		}
		wait(ctx, pause)
		all = false
		select {
		case <-ctx.Done():
		case <-changed:
		case name := <-appeared:
			k.keepAdvertisements(name)
		case name := <-ended:
			if slices.ContainsFunc(k.all, func(a *attach.Attachment) bool { return a.HostIfName() == name }) {
				k.stamp = "" // its container may have ended without a DEL
			}
		case _, damaged := <-rules:
			if !damaged {
				rules = nil // the watch has ended
			} else if k.Rules != nil {
				k.say("rules", k.Rules(ctx), "the firewall was changed by somebody else: put back what was missing")
			}
		case <-ticker.C:
			all = true
		}
	}
	return nil
}

// hear passes on what the watcher tells.
func (k *Keeper) hear(ctx context.Context, w *link.Watcher, changed chan<- struct{}, appeared, ended chan<- string) {
	tell := func(to chan<- string, name string) {
		select {
		case to <- name:
		default: // a burst of containers
		}
	}
	err := w.Run(ctx, func(c link.Change) {
		if c.New != "" {
			tell(appeared, c.New) // none of those that matter
			return
		}
		if c.Gone != "" {
			tell(ended, c.Gone)
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		k.Log.Warn("watch interfaces; they are compared now and then", "error", err)
	}
}

// cpuTime is what the process has used of the processors: on a busy machine a comparison
// takes long, and is none the dearer for it.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0 // and so what is between two of them
	}
	return time.Duration(t.Nano())
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// compare puts back what is not as it has to be, and returns how long to wait before the
// next time. At a tick everything is looked at. What an ADD has written since the last one
// is known at every look: a bridge may be deleted as soon as it has a container.
func (k *Keeper) compare(ctx context.Context, atTick bool) (pause time.Duration) {
	start := cpuTime()
	fresh := k.stale(atTick)
	if fresh {
		k.list(ctx)
	}
	missing := k.missing(ctx)
	pause = min(max(calm, portion*(cpuTime()-start)), tick)
	if len(missing) > 0 && !fresh { // or it is nobody's any more
		k.list(ctx)
		missing = k.missing(ctx)
	}
	if atTick || k.again { // it asks by a program
		if done, err := firewall.RestoreIPTables(ctx, k.made, k.again, k.readable); done || err != nil {
			k.again = err != nil
			k.say("rules of iptables", err, "a table of iptables was flushed: put back the rules of all containers")
		}
	}
	if done, err := firewall.RestoreSpoof(ctx, k.made, k.readable); done || err != nil {
		k.say("the addresses that containers are held to", err, "what holds containers to their addresses was deleted: put back")
	}
	if len(missing) == 0 {
		k.inRow = 0
		return pause
	}
	k.restore(ctx, missing)
	if k.inRow++; k.inRow > fight {
		pause = min(pause<<min(k.inRow-fight, 10), tick)
	}
	return pause
}

// stale tells whether the records have to be read again: somebody has written some, or was
// about to end an ADD.
func (k *Keeper) stale(atTick bool) bool {
	stamp := k.Records.Stamp()
	if atTick {
		k.ticks++
	}
	if stamp == k.stamp && len(k.made) == len(k.all) && !(atTick && k.ticks%unheard == 0) {
		return false
	}
	k.stamp = stamp
	return true
}

// restore puts back what is missing, and then, where a bridge was made again, what its
// containers lack.
func (k *Keeper) restore(ctx context.Context, missing []*Shared) {
	var again []string
	for _, s := range missing {
		what := s.String()
		why := s.Check(ctx)
		if why == nil {
			continue // with what was before it
		}
		err := s.Restore(ctx)
		k.say(what, err, "put back "+what+": "+Summary(why))
		if _, bridge := s.Step.(*link.Bridge); bridge && err == nil {
			again = append(again, s.Networks...)
		}
	}
	if len(again) == 0 {
		return
	}
	err := Reload(ctx, k.Records, ReloadOptions{Networks: slices.Compact(slices.Sorted(slices.Values(again))), Now: time.Now()},
		func(e Event) {
			if e.Action != Left {
				k.Log.Info(e.String())
			}
		})
	if err != nil && ctx.Err() == nil {
		k.Log.Error("put back containers' interfaces", "error", err)
	}
}

// list reads what the host has to have from the records of containers that are there.
func (k *Keeper) list(ctx context.Context) {
	all, err := k.readable(ctx)
	if err != nil {
		k.say("records", err, "")
		return // what was known goes on to hold
	}
	k.say("records", nil, "the records can be read again")
	links, err := ListLinks()
	if err != nil {
		k.Log.Error("list interfaces", "error", err)
		return
	}
	now := time.Now()
	k.all = slices.DeleteFunc(all, func(a *attach.Attachment) bool {
		state, _ := StateOf(a, links, now)
		if state == Gone {
			k.forget(ctx, a.Key)
		}
		return state == Gone
	})
	// What a record stands for may be about to be made, or deleted: it is not missing.
	if k.made, err = k.Records.Idle(k.all); err != nil {
		k.Log.Error("ask which containers are being added", "error", err)
	}
	k.shared = slices.DeleteFunc(SharedBy(k.all), func(s *Shared) bool {
		return !slices.ContainsFunc(s.all, func(a *attach.Attachment) bool { return slices.Contains(k.made, a) })
	})
}

// forget drops the names of a container whose namespace ended without a DEL. An ADD of the
// same key that is under way is waited for.
func (k *Keeper) forget(ctx context.Context, key attach.Key) {
	if k.Names == nil || !k.Names.Has(key) {
		return
	}
	a, err := k.Records.Settle(ctx, key)
	if err != nil {
		return // its DEL has come, or the next tick looks again
	}
	links, err := ListLinks()
	if err != nil {
		return
	}
	if state, why := StateOf(a, links, time.Now()); state == Gone {
		k.Names.Forget(key)
		k.Log.Info("names forgotten", "container", key.String(), "why", why)
	}
}

// readable lists the records; one that cannot be read keeps nothing from the others.
func (k *Keeper) readable(ctx context.Context) ([]*attach.Attachment, error) {
	all, err := k.Records.List(ctx, "")
	if errors.Is(err, attach.ErrUnreadable) {
		err = nil
	}
	return all, err
}

func (k *Keeper) missing(ctx context.Context) (missing []*Shared) {
	for _, s := range k.shared {
		if s.Check(ctx) != nil {
			missing = append(missing, s)
		}
	}
	return missing
}

// keepAdvertisements is for an interface that is new, on a host that routes IPv6 for
// containers.
func (k *Keeper) keepAdvertisements(name string) {
	for _, s := range k.shared {
		if f, ok := s.Step.(*link.Forwarding); ok && f.Routes(s.Users, true) {
			if err := link.KeepAdvertisements(name); err != nil {
				k.Log.Debug("keep router advertisements", "interface", name, "error", err) // gone since, mostly
			}
		}
	}
}

// say tells of what was done, or why it could not be, which is said once.
func (k *Keeper) say(about string, err error, done string) {
	if k.said == nil {
		k.said = map[string]string{}
	}
	failed := k.said[about]
	switch {
	case err == nil && (failed != "" || about != "records"):
		delete(k.said, about)
		k.Log.Info(done)
	case err != nil && failed != err.Error():
		k.said[about] = err.Error()
		k.Log.Error("keep "+about, "error", err)
	}
}
