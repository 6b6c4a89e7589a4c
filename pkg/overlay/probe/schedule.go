package probe

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// regularPeriod is how often a peer is asked at least, as long as the rate allows.
	regularPeriod = 15 * time.Second
	// soonShare is the part of the rate, one in so many, that new and failing peers
	// get while others are due as well.
	soonShare = 5
	// tick is how often at most the process wakes to start probes, many at once: to
	// wake an idle process costs more than a probe does.
	tick = time.Second
	// lateness is the part of the period that a regular target may be late by before
	// all turns are theirs.
	lateness = 50
	// firstBackoff is how soon a peer is asked again that has just failed.
	firstBackoff = time.Second
	// starved is how many ticks in a row pass without a probe when the process has got them
	// late: the machine has no time for what it has to do, and what a probe would find is
	// that.
	starved = 4
	// welcomeRate bounds how many hosts a second ask one that all have just learned of.
	welcomeRate = 200
)

// Schedule says which target is next. With N targets and a rate of R a second, it
// starts at most R probes a second in all, a second's worth at once, and asks every
// target at least once in max(15 s, 1.25 N/R), within 2 % and a second, whatever the
// others do, on a machine that has time for it. New and failing ones are asked sooner, the latter with a backoff that
// doubles from 1 s. K names a target, say a struct of network, node and family. For
// concurrent use.
type Schedule[K comparable] struct {
	interval time.Duration // between two probes

	mu      sync.Mutex
	entries map[K]*entry[K]
	regular queue[K]  // all that are not being asked
	soon    queue[K]  // those of them that are asked before their turn
	slot    time.Time // of the next probe; those of the last tick that were not used are kept
	turns   uint      // counts probes while both queues had one due
	wake    chan struct{}
}

// entry is a target.
type entry[K comparable] struct {
	key   K
	asked time.Time // when last, less a jitter; for a new one when it came
	due   time.Time // in soon
	fails int
	busy  bool
	hurry bool // asked for while busy
	at    [2]int
}

// NewSchedule makes a schedule that starts so many probes a second.
func NewSchedule[K comparable](rate float64) *Schedule[K] {
	return &Schedule[K]{
		interval: time.Duration(float64(time.Second) / rate),
		entries:  map[K]*entry[K]{},
		regular:  queue[K]{which: 0, before: func(a, b *entry[K]) bool { return a.asked.Before(b.asked) }},
		soon:     queue[K]{which: 1, before: func(a, b *entry[K]) bool { return a.due.Before(b.due) }},
		wake:     make(chan struct{}, 1),
	}
}

// Add adds a target, to be asked soon. One that is there already stays as it is.
func (s *Schedule[K]) Add(key K) { s.add(key, time.Now()) }

func (s *Schedule[K]) add(key K, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key] != nil {
		return
	}
	e := &entry[K]{key: key, asked: now, at: [2]int{-1, -1}}
	s.entries[key] = e
	// All hosts learn of a new one at the same moment.
	spread := max(time.Second, time.Duration(len(s.entries))*time.Second/welcomeRate)
	e.due = now.Add(rand.N(spread))
	heap.Push(&s.regular, e)
	heap.Push(&s.soon, e)
	s.changed()
}

// Hurry has a target asked at the next turn, say after a remedy.
func (s *Schedule[K]) Hurry(key K) { s.hurry(key, time.Now()) }

func (s *Schedule[K]) hurry(key K, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	switch {
	case e == nil:
		return
	case e.busy:
		e.hurry = true
		return
	}
	s.soon.remove(e)
	e.due = now
	heap.Push(&s.soon, e)
	s.changed()
}

// Remove forgets a target.
func (s *Schedule[K]) Remove(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		s.regular.remove(e)
		s.soon.remove(e)
		delete(s.entries, key)
	}
}

// Run calls probe for each target in its turn, each in a goroutine of its own, until
// the context ends and the last has returned. Probe returns whether all was well.
// The same target is not probed twice at a time.
func (s *Schedule[K]) Run(ctx context.Context, probe func(context.Context, K) bool) {
	var running sync.WaitGroup
	defer running.Wait()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	late := 0 // ticks in a row
	for ctx.Err() == nil {
		if late == 0 {
			if e, _ := s.next(time.Now()); e != nil {
				running.Go(func() { s.done(e, probe(ctx, e.key), time.Now()) })
				continue
			}
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case at := <-ticker.C:
			if late++; late > starved || time.Since(at) < tick/4 {
				late = 0
			}
		}
	}
}

// changed wakes Run. Callers hold mu.
func (s *Schedule[K]) changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// period is the time in which all targets have their turn.
func (s *Schedule[K]) period() time.Duration { return max(regularPeriod, s.round()) }

// round is how long one round takes at the regular targets' share of the rate.
func (s *Schedule[K]) round() time.Duration {
	return time.Duration(len(s.entries)) * s.interval * soonShare / (soonShare - 1)
}

// next takes the target whose turn it is, or says how long to wait.
func (s *Schedule[K]) next(now time.Time) (*entry[K], time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	regular, soon := s.regular.first(), s.soon.first()
	if regular == nil {
		return nil, tick // nothing there, or all busy
	}
	if wait := s.slot.Sub(now); wait > 0 {
		return nil, wait
	}
	period := s.period()
	e, wait := regular, regular.asked.Add(period).Sub(now)
	if soon != nil {
		early := soon.due.Sub(now)
		if wait <= 0 && early <= 0 {
			s.turns++
		}
		// Many that came soon together are due together later: then they go first.
		late := wait < -period/lateness
		if early < wait && wait > 0 || early <= 0 && !late && s.turns%soonShare == 0 {
			e, wait = soon, early
		}
	}
	if wait > 0 {
		return nil, wait
	}
	if saved := now.Add(s.interval - tick); s.slot.Before(saved) {
		s.slot = saved
	}
	s.slot = s.slot.Add(s.interval)
	s.regular.remove(e)
	s.soon.remove(e)
	e.busy, e.asked = true, now
	return e, 0
}

// done gives a target back, with the outcome.
func (s *Schedule[K]) done(e *entry[K], good bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.key] != e {
		return // removed meanwhile
	}
	e.busy = false
	period := s.period()
	// The jitter keeps hosts from asking in step. There is no room for it when the
	// rate is used up, nor need, since then the queue decides.
	if room := period - max(period*4/5, s.round()); room > 0 {
		e.asked = e.asked.Add(-rand.N(room))
	}
	heap.Push(&s.regular, e)
	var backoff time.Duration
	if good {
		e.fails = 0
	} else {
		backoff = firstBackoff << min(e.fails, 20)
		e.fails++
		backoff = backoff/2 + rand.N(backoff/2+1)
	}
	if e.hurry {
		e.hurry, backoff = false, 1
	}
	if 0 < backoff && backoff < period {
		e.due = now.Add(backoff)
		heap.Push(&s.soon, e)
	}
}
