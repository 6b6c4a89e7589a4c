package server

import (
	"context"
	"errors"
	"time"

	"github.com/miekg/dns"
)

// race is one query to several servers, of which the first good answer wins.
//
// That a name is not there is believed of a server that was asked beside an earlier one
// only when that one says nothing in its time: of two servers, one may be the network's
// own, and know names that the other cannot.
type race struct {
	*exchanger
	query    *dns.Msg
	runners  []runner
	patience time.Duration
	began    time.Time
	started  int
	running  int
	next     time.Time // when the next one starts
	ended    chan finish
	reached  bool // somebody has answered something

	lack    *response // the name is not there, says the one at lackOf
	lackOf  int
	refusal *response
	err     error
}

// runner is a server in a race.
type runner struct {
	*upstream
	after   time.Duration // how long the one before it has for itself
	suspect bool
	behind  bool
	over    bool
}

// finish is how a runner came in.
type finish struct {
	at  int
	r   *response
	err error
}

func (c *race) run(ctx context.Context) (*response, error) {
	if len(c.runners) == 0 {
		return nil, errNoUpstream
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if c.may() && !time.Now().Before(c.next) {
			c.start(ctx)
			continue
		}
		if c.running == 0 || c.lack != nil && (c.leads(c.lackOf) || time.Since(c.began) >= c.patience) {
			return c.best()
		}
		timer.Reset(time.Until(c.wake()))
		select {
		case f := <-c.ended:
			if c.take(f) {
				return f.r, nil
			}
		case <-timer.C:
		case <-ctx.Done():
			c.err = errors.Join(c.err, context.Cause(ctx))
			return c.best()
		}
	}
}

// may tells whether there is another one to start. Servers behind another one are asked
// only when nobody could be reached.
func (c *race) may() bool {
	return c.started < len(c.runners) && !(c.runners[c.started].behind && c.reached)
}

// wake is when something is to be done without an answer.
func (c *race) wake() time.Time {
	at := c.began.Add(2 * totalTime)
	if c.may() {
		at = earlier(at, c.next)
	}
	if c.lack != nil {
		at = earlier(at, c.began.Add(c.patience))
	}
	return at
}

func (c *race) start(ctx context.Context) {
	at, u := c.started, c.runners[c.started].upstream
	c.started++
	c.running++
	if c.started < len(c.runners) {
		c.next = time.Now().Add(c.runners[c.started].after)
	}
	go func() {
		f := finish{at: at, err: errBug}
		defer func() {
			if v := recover(); v != nil {
				u.failed(time.Now())
			}
			c.ended <- f
		}()
		f.r, f.err = c.ask(ctx, u, c.query)
	}()
}

var errBug = errors.New("a bug")

// take notes how one came in, and reports whether it has won.
func (c *race) take(f finish) bool {
	c.running--
	c.runners[f.at].over = true
	c.reached = c.reached || f.err == nil
	switch {
	case f.err != nil:
		c.err, c.next = f.err, time.Now()
	case refuses(f.r.rcode):
		c.refusal, c.next = f.r, time.Now()
	case f.r.rcode != dns.RcodeNameError || c.leads(f.at):
		return true
	case c.lack == nil || f.at < c.lackOf:
		c.lack, c.lackOf = f.r, f.at
	}
	return false
}

// leads tells whether none is running that was asked before, and is trusted.
func (c *race) leads(at int) bool {
	for _, r := range c.runners[:at] {
		if !r.over && !r.suspect {
			return false
		}
	}
	return true
}

// best is what there is when nobody runs any more.
func (c *race) best() (*response, error) {
	switch {
	case c.lack != nil:
		return c.lack, nil
	case c.refusal != nil:
		return c.refusal, nil
	}
	return nil, c.err
}
