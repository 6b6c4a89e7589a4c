package kubernetes

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// start has fn called with each update, beside the collector: an agent that is slow to follow
// keeps nobody from reading its watches, which the server ends when they are not read, and
// what comes meanwhile is one update.
func (c *collector) start(work *sync.WaitGroup) {
	c.updates, c.done = make(chan overlay.Update, 1), make(chan struct{}, 1)
	work.Go(func() {
		for u := range c.updates {
			c.fn(u)
			c.done <- struct{}{}
		}
	})
}

// say has an update told, once those before it have been.
func (c *collector) say(u overlay.Update) { c.queue = append(c.queue, u) }

// tellNext tells the next one, if nothing is being told.
func (c *collector) tellNext() {
	if len(c.queue) == 0 || c.busy {
		return
	}
	c.updates <- c.queue[0] // it has room for one
	c.queue, c.busy = slices.Delete(c.queue, 0, 1), true
}

// due is when something is to be told.
func (c *collector) due() (time.Duration, bool) {
	switch {
	case !c.told:
		return 0, c.complete() && c.swept && !c.away
	case c.unproven || c.away || c.busy || len(c.queue) > 0: // what comes meanwhile is put together
		return 0, false
	case c.back || len(c.pending) >= burst:
		return 0, true
	case len(c.pending) == 0:
		return 0, false
	case c.since.Sub(c.last) > settleMost: // after a rest the first change is told at once
		return 0, true
	}
	return max(0, min(settle, settleMost-time.Since(c.since))), true
}

// flush tells what has changed.
func (c *collector) flush() {
	u := overlay.Update{Full: !c.told}
	for k, m := range c.pending {
		was, had := k.of.held[k.name]
		if m.kind == gone {
			if delete(k.of.held, k.name); had {
				c.drop(&u, k, was)
			}
			continue
		}
		k.of.held[k.name] = held{m.version, m.key, m.err != nil}
		key := printable(k.of.Plural + "/" + k.name)
		switch {
		case m.err != nil:
			u.Bad = append(u.Bad, badKey(k.of.Plural+"/"+k.name, m.err))
			if had && !was.bad {
				c.forget(&u, k.name, was.key)
			}
			continue
		case was.bad:
			u.GoneBad = append(u.GoneBad, key)
		case had && was.key != m.key: // it is another one by now
			c.deleted(k.name, was.key)
		}
		c.put(&u, k.name, m.value)
	}
	if c.told {
		clear(c.pending)
	} else { // it will not be as large again
		c.pending = map[pendingKey]message{}
	}
	if c.own {
		u.History.Revision, _ = strconv.ParseInt(c.version(), 10, 64)
	}
	if u.Full {
		u.History.Incarnation, u.Broken, c.why = c.incarnation, c.why, nil
		if c.incarnation == "" {
			u.History = overlay.History{}
		}
		c.told = true
	}
	c.back, c.last = false, time.Now()
	if c.own {
		c.s.size.Store(int64(len(c.lives)))
	}
	c.say(u)
	if r := c.s.registered(); u.Full && c.own && r != nil && c.lives[r.node.Name] == nil {
		c.s.poke() // what it was is not there; what is not as it was, has been looked after
	}
}
