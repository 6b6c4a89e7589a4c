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
}

var errNoUpstream = errors.New("there is no upstream resolver to ask")

// newGroup makes a group of addresses. known returns the server of an address.
func newGroup(addrs []netip.AddrPort, known func(netip.AddrPort) *upstream) *group {
	g := &group{}
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
		g.servers = append(g.servers, known(a))
	}
	g.key = strings.Join(words, " ")
	return g
}

// has reports whether the address is a server of the group.
func (g *group) has(addr netip.Addr) bool {
	return slices.ContainsFunc(g.servers, func(u *upstream) bool { return u.addr.Addr() == addr })
}

// order returns the servers as they are to be asked: those that answer before the
// others, and without one address; and a suspect whose time it is to be tried.
func (g *group) order(not netip.Addr, now time.Time) (servers []*upstream, suspect *upstream) {
	var late []*upstream
	for _, u := range g.servers {
		switch {
		case u.addr.Addr() == not:
		case u.healthy():
			servers = append(servers, u)
		default:
			late = append(late, u)
		}
	}
	if len(servers) == 0 {
		return late, nil
	}
	for _, u := range late {
		if u.due(now) {
			suspect = u
			break
		}
	}
	return append(servers, late...), suspect
}

// ask asks one after the other until one has an answer, all of them again while there
// is time: a packet may be lost. A query is never sent to who asked it, which would
// ask again (a container that is a resolver, and asks its network's).
//
// What no server would do, or could, is the last one's answer; the error is that of
// the last who gave none.
func (g *group) ask(ctx context.Context, x *exchanger, q *dns.Msg, asker netip.Addr) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, totalTime)
	defer cancel()
	servers, suspect := g.order(asker, time.Now())
	if suspect != nil {
		go x.probe(context.WithoutCancel(ctx), g, suspect, q.Copy())
	}
	var refusal *response
	err := errNoUpstream
	for again := true; again && ctx.Err() == nil; {
		again = false
		for _, u := range servers {
			var r *response
			if r, err = g.try(ctx, x, u, q); err != nil {
				again = again || errors.Is(err, errSilent)
				continue
			}
			switch r.rcode {
			case dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError:
				refusal = r
			default:
				return r, nil
			}
		}
		if refusal != nil {
			return refusal, nil
		}
	}
	return nil, err
}

// errSilent: a server did not answer in time.
var errSilent = errors.New("no answer")

// try asks one server, and remembers whether it answered.
func (g *group) try(ctx context.Context, x *exchanger, u *upstream, q *dns.Msg) (*response, error) {
	now := time.Now()
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	r, err := x.ask(ctx, u, q)
	switch {
	case err == nil:
		u.works()
	case ctx.Err() == context.DeadlineExceeded || time.Since(now) >= tryTime/2:
		u.failed(time.Now())
		err = errors.Join(errSilent, err)
	default:
		u.failed(time.Now())
	}
	return r, err
}

// probe tries a suspect with a copy of somebody's query.
func (x *exchanger) probe(ctx context.Context, g *group, u *upstream, q *dns.Msg) {
	defer func() {
		if recover() != nil { // what made it panic is told where the query itself does
			u.failed(time.Now())
		}
	}()
	_, _ = g.try(ctx, x, u, q)
}
