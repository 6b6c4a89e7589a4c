package roster

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

const (
	// pace is the least time between two publications: what changes meanwhile is one.
	// A name is visible elsewhere in that time, and some milliseconds.
	pace = 100 * time.Millisecond
	// Retries wait from minBackoff to maxBackoff, doubling, half of it by chance.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// publish brings the store's names of this host to what is wanted, whenever they may
// not be.
func (r *Roster) publish(ctx context.Context) {
	failures, warned := 0, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.due:
		}
		put, drop := r.collect()
		if len(put)+len(drop) == 0 {
			continue
		}
		err := r.Names.PublishNames(ctx, put, drop)
		if err == nil {
			if warned {
				r.Log.Info("other hosts know this host's names again")
			}
			failures, warned = 0, false
			rest(ctx, nil, pace)
			continue
		}
		failures++
		if failures >= 3 && !warned && !errors.Is(err, overlay.ErrNotRegistered) {
			warned = true
			r.Log.Warn("other hosts do not know of changes to this host's names; trying again", "error", err)
		}
		r.restore(put, drop)
		if rest(ctx, r.again, backoff(failures)) {
			failures = 0
		}
	}
}

// collect takes what is to be written.
func (r *Roster) collect() (put []overlay.Name, drop []overlay.NameKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.dirty {
		if n, ok := r.wanted[k]; ok {
			put = append(put, n)
		} else {
			drop = append(drop, k)
		}
	}
	clear(r.dirty)
	return put, drop
}

// restore has what was not written written later, as it is wanted then.
func (r *Roster) restore(put []overlay.Name, drop []overlay.NameKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range put {
		r.renew(n.NameKey)
	}
	for _, k := range drop {
		r.renew(k)
	}
}

// rest waits. It reports whether it was told to go on before.
func rest(ctx context.Context, again <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-again:
		return true
	case <-t.C:
	}
	return false
}

func backoff(failures int) time.Duration {
	d := min(minBackoff<<min(failures-1, 8), maxBackoff)
	return d/2 + rand.N(d/2)
}

// compare has what the store holds of this host published again where it is not what
// is wanted. Full says that names are all that it holds.
func (r *Roster) compare(network string, full bool, names []overlay.Name, gone []overlay.NameKey) {
	held := map[overlay.NameKey]bool{}
	for _, n := range names {
		if n.Node != r.Node {
			continue
		}
		held[n.NameKey] = true
		if want, ok := r.wanted[n.NameKey]; !ok || !want.Same(&n) {
			r.renew(n.NameKey)
		}
	}
	if full {
		gone = slices.Collect(maps.Keys(r.wanted))
	}
	for _, k := range gone {
		if _, ok := r.wanted[k]; ok && k.Network == network && !held[k] {
			r.renew(k)
		}
	}
}
