package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/miekg/dns"
)

// foreignMost is how many packets that are no answer to the query are read while waiting
// for the one that is.
const foreignMost = 16

// talk is a query to one server by UDP, and what else it takes until there is an answer:
// the query once more, since a packet may be lost, and the query without EDNS, which some
// servers, and some boxes before them, drop, refuse or mangle. All of it goes by one
// socket, which stays open until the time is over: a late answer is one, too.
type talk struct {
	u            *upstream
	conn         net.Conn
	began        time.Time
	query, plain sending // as it was asked; without EDNS, if that is something else
	plan         []turn
	foreign      int
	refusal      *received // of the query with EDNS
}

// sending is a form of the query, with an ID of its own.
type sending struct {
	asked *dns.Msg // nil: there is none
	raw   []byte
	sent  bool
}

// turn is something to be sent when there is no answer.
type turn struct {
	after time.Duration
	what  *sending
}

// received is an answer, and the form of the query that it answers.
type received struct {
	*response
	asked *dns.Msg
}

func newSending(q dns.Msg) (sending, error) {
	q.Id = uint16(rand.Uint32()) // ChaCha8, seeded by the kernel
	raw, err := q.Pack()
	return sending{asked: &q, raw: raw}, err
}

// udp asks one server by UDP until the context ends.
func (x *exchanger) udp(ctx context.Context, u *upstream, q *dns.Msg) (received, error) {
	t, err := newTalk(u, q)
	if err != nil {
		return received{}, err
	}
	if t.conn, err = x.dial(ctx, u); err != nil {
		if ctx.Err() == nil {
			u.failed(time.Now()) // there is no way to it
		}
		return received{}, err
	}
	defer t.conn.Close()
	defer context.AfterFunc(ctx, func() { _ = t.conn.SetReadDeadline(time.Unix(1, 0)) })()
	got, err := t.run(ctx)
	if err != nil && t.refusal != nil {
		return *t.refusal, nil
	}
	if err != nil && ctx.Err() == nil {
		u.failed(time.Now())
	}
	return got, err
}

// newTalk plans what is to be sent when.
func newTalk(u *upstream, q *dns.Msg) (*talk, error) {
	t := &talk{u: u, began: time.Now()}
	asked := *q
	plain, good := u.ability(t.began)
	if plain {
		asked.Extra = nil
	}
	var err error
	if t.query, err = newSending(asked); err != nil {
		return nil, err
	}
	if asked.IsEdns0() == nil {
		t.plan = []turn{{tryTime, &t.query}, {2 * tryTime, &t.query}}
		return t, nil
	}
	asked.Extra = nil
	if t.plain, err = newSending(asked); err != nil {
		return nil, err
	}
	if good {
		t.plan = []turn{{tryTime, &t.query}, {2 * tryTime, &t.plain}}
	} else {
		t.plan = []turn{{plainAfter, &t.plain}, {tryTime, &t.plain}, {2 * tryTime, &t.query}}
	}
	return t, nil
}

func (t *talk) run(ctx context.Context) (received, error) {
	if err := t.send(&t.query); err != nil {
		return received{}, err
	}
	for {
		end, _ := ctx.Deadline()
		if len(t.plan) > 0 {
			end = earlier(end, t.began.Add(t.plan[0].after))
		}
		if err := t.conn.SetReadDeadline(end); err != nil {
			return received{}, err
		}
		if ctx.Err() != nil { // behind the deadline, which the context's end sets, too
			return received{}, context.Cause(ctx)
		}
		raw, err := readPacket(t.conn)
		switch {
		case err == nil:
			if got := t.take(raw); got != nil {
				return *got, nil
			}
			if t.foreign > foreignMost {
				return received{}, fmt.Errorf("%s sends what was not asked for", t.u.addr)
			}
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return received{}, err
		case ctx.Err() == nil:
			if err := t.next(); err != nil {
				return received{}, err
			}
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (t *talk) send(s *sending) error {
	s.sent = true
	_, err := t.conn.Write(s.raw)
	return err
}

// next sends what is due.
func (t *talk) next() error {
	for len(t.plan) > 0 && time.Since(t.began) >= t.plan[0].after {
		due := t.plan[0]
		t.plan = t.plan[1:]
		if due.after == tryTime {
			t.u.failed(time.Now()) // an answer that comes yet makes it well again
		}
		if err := t.send(due.what); err != nil {
			return err
		}
	}
	return nil
}

// take reads a packet, and returns the answer if it is one that will do.
func (t *talk) take(raw []byte) *received {
	s := t.answered(raw)
	if s == nil {
		t.foreign++
		return nil
	}
	now := time.Now()
	r, m, err := newResponse(s.asked, raw, now)
	if errors.Is(err, errOtherQuestion) {
		t.foreign++
		return nil
	}
	with := s == &t.query && t.plain.asked != nil
	if err != nil || with && refuses(m.Rcode) {
		t.foreign++
		if err == nil {
			t.refusal = &received{r, s.asked}
			t.u.works(now.Sub(t.began))
		}
		if with && !t.plain.sent && t.send(&t.plain) != nil {
			return t.refusal
		}
		return nil
	}
	t.u.works(now.Sub(t.began))
	switch {
	case with && m.IsEdns0() != nil:
		t.u.ednsWorks()
	case s == &t.plain && !refuses(m.Rcode):
		t.u.ednsFails(now)
	case s == &t.plain && t.refusal != nil:
		return t.refusal // it is not for EDNS that it is refused
	}
	return &received{r, s.asked}
}

// answered is the form of the query that a packet has the ID of.
func (t *talk) answered(raw []byte) *sending {
	if len(raw) < headerLen {
		return nil
	}
	id := binary.BigEndian.Uint16(raw)
	for _, s := range []*sending{&t.query, &t.plain} {
		if s.sent && s.asked.Id == id {
			return s
		}
	}
	return nil
}

// refuses tells whether another server, or the same without EDNS, may do better.
func refuses(rcode int) bool {
	switch rcode {
	case dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError, dns.RcodeBadVers:
		return true
	}
	return false
}
