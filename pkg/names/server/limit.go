package server

import (
	"sync"
	"time"
)

// What one client, and all of them, may have under way with the upstream resolvers.
// Docker's resolver takes 1,024 at a time of a container. What is too much is answered
// with SERVFAIL at once, and from a client that goes on all the same, dropped: to
// answer a flood would cost more than to read it. Answers from the directory and the
// cache are not counted: they are made where the query is read.
const (
	clientPending = 256
	allPending    = 1024
	clientRate    = 2000 // queries a second
	clientBurst   = 4000
	failureRate   = 500 // answers with SERVFAIL a second
	failureBurst  = 1000
)

// limiter counts what is under way.
type limiter struct {
	mu      sync.Mutex
	pending int
	clients map[client]*budget
}

// budget is one client's.
type budget struct {
	pending  int
	queries  float64 // that it may send at the time
	failures float64 // that it may be told of
	time     time.Time
}

// room is what a query gets.
type room int

const (
	taken   room = iota // one that has to be given back
	failing             // none, which the client is told
	ignored             // none, and it has been told often enough
)

// take takes a place for a client's query; give gives it back.
func (l *limiter) take(c client, now time.Time) room {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.clients[c]
	if b == nil {
		if l.clients == nil {
			l.clients = map[client]*budget{}
		}
		b = &budget{queries: clientBurst, failures: failureBurst, time: now}
		l.clients[c] = b
	}
	b.refill(now)
	switch {
	case l.pending < allPending && b.pending < clientPending && b.queries >= 1:
		l.pending++
		b.pending++
		b.queries--
		return taken
	case b.failures >= 1:
		b.failures--
		return failing
	}
	return ignored
}

func (l *limiter) give(c client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending--
	if b := l.clients[c]; b != nil {
		b.pending--
	}
}

// forget drops clients that have been quiet for long enough to have all they may.
func (l *limiter) forget(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, b := range l.clients {
		if b.refill(now); b.pending == 0 && b.queries >= clientBurst && b.failures >= failureBurst {
			delete(l.clients, c)
		}
	}
}

func (b *budget) refill(now time.Time) {
	passed := max(now.Sub(b.time), 0).Seconds()
	b.queries = min(clientBurst, b.queries+passed*clientRate)
	b.failures = min(failureBurst, b.failures+passed*failureRate)
	b.time = now
}
