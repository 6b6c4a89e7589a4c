package server

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// group is upstreams in the order in which they are preferred.
type group struct {
	key     string // tells apart who was asked, in the cache
	servers []*upstream
	// behind are asked when none of the servers can be reached: those that a resolver of
	// this host's asks itself.
	behind []*upstream
	// patience is how long an earlier server has, until a later one is believed that a name
	// is not there.
	patience time.Duration
}

var errNoUpstream = errors.New("there is no upstream resolver to ask")

// newGroup makes a group of addresses. known returns the server of an address.
func newGroup(addrs, behind []netip.AddrPort, known func(netip.AddrPort) *upstream) *group {
	g := &group{patience: tryTime}
	var words []string
	for _, a := range addrs {
		words = append(words, a.String())
		g.servers = append(g.servers, known(a))
	}
	for _, a := range behind {
		words = append(words, "("+a.String()+")")
		g.behind = append(g.behind, known(a))
	}
	g.key = strings.Join(words, " ")
	return g
}

// has reports whether the address is a server of the group.
func (g *group) has(addr netip.Addr) bool {
	return slices.ContainsFunc(slices.Concat(g.servers, g.behind), func(u *upstream) bool { return u.addr.Addr() == addr })
}

// order returns the servers as they are to be asked: those that answer before the
// others, and without one address; and a suspect whose time it is to be tried.
func (g *group) order(not netip.Addr, now time.Time) (runners []runner, suspect *upstream) {
	var late []runner
	for i, u := range slices.Concat(g.servers, g.behind) {
		r := runner{upstream: u, behind: i >= len(g.servers), after: soon}
		switch {
		case u.addr.Addr() == not:
			continue
		case u.healthy():
			if r.behind && len(runners) > 0 && !runners[len(runners)-1].behind {
				r.after = tryTime
			}
			runners = append(runners, r)
		default:
			r.suspect = true
			late = append(late, r)
		}
	}
	for _, r := range late {
		if len(runners) > 0 && r.due(now) {
			suspect = r.upstream
			break
		}
	}
	runners = append(runners, late...)
	for i := 1; i < len(runners); i++ { // who is known to be slow has no time for itself
		if before := runners[i-1]; !runners[i].behind && (before.suspect || before.isSlow()) {
			runners[i].after = 0
		}
	}
	return runners, suspect
}

// ask asks the servers until one has an answer, each [soon] after the one before it, or at
// once when that one cannot or will not ([race]). A query is never sent to who asked it,
// which would ask again (a container that is a resolver, and asks its network's).
//
// What no server would do, or could, is the last one's answer; the error is that of
// the last who gave none.
func (g *group) ask(ctx context.Context, x *exchanger, q *dns.Msg, asker netip.Addr) (*response, error) {
	now := time.Now()
	runners, suspect := g.order(asker, now)
	if suspect != nil {
		go x.probe(context.WithoutCancel(ctx), suspect, q.Copy())
	}
	ctx, cancel := context.WithTimeout(ctx, totalTime)
	c := &race{exchanger: x, query: q, runners: runners, patience: g.patience, began: now, next: now, ended: make(chan finish, len(runners))}
	r, err := c.run(ctx)
	if c.running == 0 {
		cancel()
		return r, err
	}
	// Who was slower shows yet how slow it is.
	time.AfterFunc(time.Until(now.Add(tryTime+soon)), cancel)
	return r, err
}

// probe tries a suspect with a copy of somebody's query.
func (x *exchanger) probe(ctx context.Context, u *upstream, q *dns.Msg) {
	ctx, cancel := context.WithTimeout(ctx, 2*tryTime)
	defer cancel()
	defer func() {
		if recover() != nil { // what made it panic is told where the query itself does
			u.failed(time.Now())
		}
	}()
	if _, err := x.ask(ctx, u, q); err != nil {
		u.failed(time.Now())
	}
}
