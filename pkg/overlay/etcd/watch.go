package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/berth-cni/berth/pkg/overlay"
)

const (
	// A burst of changes is one update, once there was nothing new for settle, or
	// after settleMost, or at burst keys. The first change after a rest of settleMost is
	// told at once.
	settle     = 10 * time.Millisecond
	settleMost = 100 * time.Millisecond
	burst      = 4096
	// A node that has to read everything anew waits by chance up to spread for each
	// node there is, spreadMost at most: they all have to at the same time, and each
	// reads of all of them. A read costs etcd 14 us for each node (measured, 3.4.23).
	spread     = 20 * time.Millisecond
	spreadMost = 5 * time.Minute
)

// watcher is a Watch.
type watcher struct {
	s   *Store
	of  scope
	fn  func(overlay.Update)
	at  place           // what fn has been told; the zero value: nothing that counts
	was mark            // the last write of that
	new bool            // it was read just now
	why error           // what was told before is of another history
	bad map[string]bool // keys whose values nobody can use
	n   int             // nodes that there were at the last full read

	failures int
	away     bool // fn has been told
}

// Watch is of [overlay.Control]. It reads everything at one revision and follows
// the changes from there. When the connection is lost, it goes on from where it was,
// and reads everything anew only if the store does not have the changes any more.
// An update without Err ends the time that the store was away; it may be empty.
func (s *Store) Watch(ctx context.Context, fn func(overlay.Update)) error {
	return s.watch(ctx, s.overlay(), func(u overlay.Update) {
		fn(u)
		s.witnessed(u)
		if u.Full {
			s.poke()
		}
	})
}

func (s *Store) watch(ctx context.Context, of scope, fn func(overlay.Update)) error {
	s.follows.Do(func() { s.work.Go(s.watchAddresses) })
	w := &watcher{s: s, of: of, fn: fn}
	for {
		err := w.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.ctx.Err() != nil:
			return errClosed
		}
		if errors.Is(err, errMissed) {
			s.o.Log.Info("changes in etcd were missed: reading everything anew", "because", err)
			w.at = place{}
			if errors.Is(err, errBroken) {
				w.why = err
			}
			w.failures++
			err = sleep(ctx, pause(w.failures-1)+rand.N(min(time.Duration(w.n+1)*spread, spreadMost)))
		} else {
			w.failed(err)
			err = sleep(ctx, pause(w.failures-1))
		}
		if err != nil {
			return err
		}
	}
}

// failed tells of a store that is away, when it is so twice in a row: the first time
// another member may do.
func (w *watcher) failed(err error) {
	w.failures++
	w.s.o.Log.Debug("the watch has failed", "error", err, "failures", w.failures)
	if w.failures < 2 || w.away {
		return
	}
	w.away = true
	w.fn(overlay.Update{Err: fmt.Errorf("etcd at %s: %w", strings.Join(w.s.o.Endpoints, ","), err)})
}

// works ends the time that the store was away.
func (w *watcher) works() { w.failures, w.away = 0, false }

// errMissed: the changes since a revision cannot be had any more.
var errMissed = errors.New("changes were missed")

// follow goes on until something fails.
func (w *watcher) follow(ctx context.Context) error {
	if w.at == (place{}) {
		if err := w.readAll(ctx); err != nil {
			return err
		}
	}
	from := w.at
	if w.was.kv != nil && !w.new {
		from.revision = w.was.kv.ModRevision // what the proof is good for
	}
	return w.s.stream(ctx, w.of.prefix, from, func() error { return w.started(ctx) }, w.changed)
}

func (w *watcher) readAll(ctx context.Context) error {
	u, at, was, err := w.s.readAll(ctx, w.of)
	if err == nil && w.of.incarnate {
		err = w.s.incarnate(ctx, &u)
	}
	if errors.Is(err, rpctypes.ErrCompacted) { // between two pages
		return fmt.Errorf("%w: %w", errMissed, err)
	}
	if err != nil {
		return err
	}
	w.at, w.was, w.new, w.n, w.bad = at, was, true, hosts(u), map[string]bool{}
	u.Broken, w.why = w.why, nil
	for _, b := range u.Bad {
		w.bad[b.Key] = true
	}
	w.away = false
	w.fn(u)
	return nil
}

// hosts counts those that an update says something of.
func hosts(u overlay.Update) int {
	all := map[string]bool{}
	for _, n := range u.Names {
		all[n.Node] = true
	}
	return len(all) + len(u.Nodes)
}

// started: the watch stands. What it goes on from has to be what was told: also right
// after that, since the store may have been put back in between.
func (w *watcher) started(ctx context.Context) error {
	err := w.s.prove(ctx, w.was)
	if err != nil && !(w.new && errors.Is(err, errCompacted)) {
		return err
	}
	w.new = false
	if w.away {
		w.fn(overlay.Update{})
	}
	if w.failures > 0 {
		w.s.poke()
	}
	w.works()
	return nil
}

// changed tells fn of changes, of which each key's last one counts.
func (w *watcher) changed(events map[string]*mvccpb.Event, revision int64) {
	var u overlay.Update
	for key, e := range events {
		short, name := key[len(w.of.prefix):], printable(key)
		wasBad := w.bad[name]
		var err error
		if e.Type == mvccpb.PUT {
			err = w.of.decode(&u, short, e.Kv)
			w.was.note(e.Kv)
		}
		if err != nil {
			u.Bad = append(u.Bad, badKey(key, err))
			w.bad[name] = true
		} else if wasBad {
			u.GoneBad = append(u.GoneBad, name)
			delete(w.bad, name)
		}
		if e.Type != mvccpb.PUT || err != nil && !wasBad {
			w.of.gone(&u, short)
		}
		if w.s.mine(key) {
			w.s.poke()
		}
	}
	w.at.revision, u.History.Revision = max(w.at.revision, revision), revision
	if len(events) > 0 {
		w.fn(u)
	}
}
