package server

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// forwarder sends queries upstream. It shares nothing with who answers for the
// containers but the processors.
type forwarder struct {
	limiter
	exchanger *exchanger
	cache     cache
	log       *slog.Logger

	flightMu sync.Mutex
	flights  map[string]*flight
}

// flight is a query on its way, with all who asked it.
type flight struct {
	key     string
	group   *group
	asker   netip.Addr // a server of the group that asks itself; zero: none
	first   *pending
	waiters []*pending // the first one, too
}

// pending is a client's query that is answered later. msg is a copy of its own.
type pending struct {
	from  client
	payer client // who has its place
	q     query
	msg   []byte
	limit int
	reply func([]byte)
}

func newForwarder(log *slog.Logger) *forwarder {
	return &forwarder{exchanger: newExchanger(), log: log, flights: map[string]*flight{}}
}

// key tells queries apart that may get another answer.
func (q *query) key(buf []byte, g *group, asker netip.Addr) []byte {
	buf = append(append(buf, g.key...), 0)
	if asker.IsValid() {
		buf = asker.AppendTo(buf)
	}
	buf = append(append(buf, 0), q.name()...)
	buf = binary.BigEndian.AppendUint16(buf, q.qtype)
	buf = binary.BigEndian.AppendUint16(buf, q.qclass)
	buf = binary.BigEndian.AppendUint16(buf, q.flags&(flagAD|flagCD))
	if q.do {
		return append(buf, 1)
	}
	return append(buf, 0)
}

// cached answers from the cache, in the message's own buffer; nil if it cannot.
func (f *forwarder) cached(g *group, from client, q *query, msg []byte, limit int) []byte {
	var buf [512]byte
	now := time.Now()
	r := f.cache.get(q.key(buf[:0], g, g.asker(from)), now)
	if r == nil {
		return nil
	}
	return r.write(q, msg, limit, now)
}

// asker is the client's address if it is one of the servers, which is not asked what
// it asks.
func (g *group) asker(from client) netip.Addr {
	if g.has(from.addr) {
		return from.addr
	}
	return netip.Addr{}
}

// submit sends a query upstream that has taken its place, or joins one that is on its
// way.
func (f *forwarder) submit(ctx context.Context, g *group, p *pending) {
	asker := g.asker(p.from)
	key := string(p.q.key(nil, g, asker))
	f.flightMu.Lock()
	defer f.flightMu.Unlock()
	if fl := f.flights[key]; fl != nil {
		fl.waiters = append(fl.waiters, p)
		return
	}
	fl := &flight{key: key, group: g, asker: asker, first: p, waiters: []*pending{p}}
	f.flights[key] = fl
	go f.fly(ctx, fl)
}

// fly asks the upstreams and answers all who wait.
func (f *forwarder) fly(ctx context.Context, fl *flight) {
	r := f.ask(ctx, fl)
	f.cache.put(fl.key, r)
	f.flightMu.Lock()
	delete(f.flights, fl.key)
	waiters := fl.waiters
	f.flightMu.Unlock()
	now := time.Now()
	for _, p := range waiters {
		f.give(p.payer)
		f.tell(p, r, now)
	}
}

// tell answers one who waits.
func (f *forwarder) tell(p *pending, r *response, now time.Time) {
	defer survive(f.log, "an answer from upstream")
	p.reply(r.write(&p.q, p.msg, p.limit, now))
}

// ask returns the upstreams' answer, or a failure that is remembered for a moment.
func (f *forwarder) ask(ctx context.Context, fl *flight) (r *response) {
	p := fl.first
	defer func() {
		if v := recover(); v != nil {
			f.log.Error("bug in the names' forwarder", "panic", v)
		}
		if r == nil {
			failure := p.q.fail(slices.Clone(p.msg), len(p.msg), rcodeServFail)
			now := time.Now()
			r = &response{msg: failure[:p.q.end], rcode: rcodeServFail, got: now, expires: now.Add(failureTime)}
			binary.BigEndian.PutUint16(r.msg[10:], 0) // without EDNS, as all that is kept
		}
	}()
	q, err := p.q.upstream()
	if err == nil {
		r, err = fl.group.ask(ctx, f.exchanger, q, fl.asker)
	}
	if err != nil {
		f.log.Debug("ask upstream", "servers", fl.group.key, "error", err)
	}
	return r
}

// upstream is the query as the upstreams get it: nothing of the client's but the
// question and what it says of DNSSEC. EDNS is used if the client uses it: who asks
// without gets what it would get of the server itself.
func (q *query) upstream() (*dns.Msg, error) {
	name, _, err := dns.UnpackDomainName(q.name(), 0)
	if err != nil {
		return nil, err
	}
	m := &dns.Msg{Question: []dns.Question{{Name: name, Qtype: q.qtype, Qclass: q.qclass}}}
	m.RecursionDesired = true
	m.AuthenticatedData, m.CheckingDisabled = q.flags&flagAD != 0, q.flags&flagCD != 0
	if q.edns {
		m.SetEdns0(maxPayload, q.do)
	}
	return m, nil
}
