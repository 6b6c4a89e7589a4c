package server

import (
	"net/netip"
	"slices"
	"time"
)

// replier can be kept, and answers later.
type replier interface {
	// later returns what sends an answer to whoever sent the query.
	later() func([]byte)
}

// handle answers a message over itself: msg has room for 64 kB, or what a packet
// holds. It returns nil when there is no answer, or a later one.
func (s *Server) handle(from client, msg []byte, stream bool, r replier) []byte {
	var q query
	rcode := q.parse(msg)
	limit := cap(msg)
	if !stream {
		limit = min(q.payload, limit)
	}
	if rcode == 0 {
		rcode = q.unsupported()
	}
	switch {
	case rcode == drop:
		return nil
	case rcode != 0:
		return q.fail(msg, limit, rcode)
	}
	a := q.start(msg, limit)
	what, e := s.resolve(from, &q, &a)
	switch what {
	case answered:
		return a.finish()
	case refused:
		return q.fail(msg, limit, rcodeRefused)
	case linked:
		p := &pending{from: from, q: q, msg: slices.Clone(msg), limit: limit, reply: r.later()}
		if s.links.submit(s.ctx, e, p) {
			return nil
		}
		return q.fail(msg, limit, rcodeServFail)
	}
	g := s.upstreams(from, e)
	if out := s.forwarder.cached(g, from, &q, msg, limit); out != nil {
		return out
	}
	payer := from
	if e.guest {
		payer.addr = netip.Addr{} // or one that takes ever new addresses would have all places
	}
	switch s.forwarder.take(payer, time.Now()) {
	case taken:
		s.forwarder.submit(s.ctx, g, &pending{from: from, payer: payer, q: q, msg: slices.Clone(msg), limit: limit, reply: r.later()})
	case failing:
		return q.fail(msg, limit, rcodeServFail)
	}
	return nil
}

// unsupported is the response code for questions that nobody is sent on with: another
// class than the Internet's, transfers of zones, EDNS as a question.
func (q *query) unsupported() int {
	switch {
	case q.qclass != classIN && q.qclass != classANY:
		return rcodeRefused
	case q.qclass == classANY && q.qtype != typeANY:
		return rcodeRefused
	case q.qtype >= typeIXFR && q.qtype <= typeMAILA:
		return rcodeNotImp
	case q.qtype == typeOPT || q.qtype == 0:
		return rcodeFormErr
	}
	return 0
}
