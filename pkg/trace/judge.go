package trace

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// judge says what becomes of the flow by what was seen of it: first the way there, place by
// place, then the way back.
func (f *flow) judge(r *Report, s *sighting) {
	if !s.sent && (s.legs[atHost] == nil || s.legs[atHost].there == nil) {
		if !r.ended() {
			r.step(theHost, Note, "no packet from %s to %s came in while it was waited for", f.source, f.target)
			r.Verdict = Unknown
		}
		return
	}
	if f.there(r, s); !r.ended() {
		f.answered(r, s)
	}
	if r.guessed && len(f.suspects) > 0 { // nobody was seen to drop it: then what look found is the reason
		x := f.suspects[0]
		r.Why, r.Mend = x.place+": "+x.why, x.mend
	}
	if r.Verdict == "" {
		r.Verdict = Unknown
	}
}

// there follows the packet to where it goes.
func (f *flow) there(r *Report, s *sighting) {
	if l := s.legs[atSource]; l != nil {
		if l.there == nil {
			f.unsent(r, s)
			return
		}
		if f.dropped(r, f.from.label, &f.from, l.there) || !f.through(r, f.from.label, l.there, "output", "postrouting") {
			return
		}
	}
	host := s.legs[atHost]
	if host == nil { // it does not leave its container
		return
	}
	if host.there == nil {
		f.unseen(r)
		return
	}
	if f.dropped(r, theHost, nil, host.there) || !f.throughHost(r, host.there) {
		return
	}
	if f.translated(r, host.there); f.dest.ns == nil {
		return
	}
	dest := s.legs[atDest]
	if dest.there == nil {
		f.undelivered(r)
		return
	}
	if f.dropped(r, f.dest.label, f.dest, dest.there) || !f.through(r, f.dest.label, dest.there, "prerouting", "input") {
		return
	}
	r.step(f.dest.label, OK, "it arrives at %s", f.final)
}

// unsent says why the source sent nothing.
func (f *flow) unsent(r *Report, s *sighting) {
	if r.ended() {
		return
	}
	why := "it sent no packet"
	if s.outcome != nil && !errors.Is(s.outcome, errSilent) {
		why += ": " + s.outcome.Error()
	}
	if errors.Is(s.outcome, unix.EHOSTUNREACH) || errors.Is(s.outcome, errSilent) {
		why += ": nobody answers for the address of the next hop (ARP, NDP)"
	}
	r.guess(f.from.label, why, "ip neighbour, in its namespace, and 'berth doctor'")
}

// dropped tells whether a rule ended the packet, and which.
func (f *flow) dropped(r *Report, place string, e *endpoint, p *passage) bool {
	d := p.drop()
	if d == nil {
		return false
	}
	c := f.culprit(d, e)
	r.end(place, Lost, c.what, c.mend)
	return true
}

// through tells whether the packet passed all of two hooks of a namespace: what ends it
// elsewhere than in nftables is between two of the chains of ours.
func (f *flow) through(r *Report, place string, p *passage, hooks ...string) bool {
	for _, hook := range hooks {
		at, past := p.reached(unix.NFPROTO_INET, hook)
		switch {
		case !at:
			r.guess(place, fmt.Sprintf("it is lost before the hook %s: the kernel has no way for it", hook), "look at the routes and at rp_filter of "+place)
			return false
		case !past:
			f.endLegacy(r, place, hook)
			return false
		}
	}
	passed := ""
	if all := p.tables(); len(all) > 0 {
		passed = ", past " + strings.Join(all, ", ")
	}
	r.step(place, OK, "it passes %s%s", strings.Join(hooks, ", "), passed)
	return true
}

// throughHost is through for the host, which may bridge, route or take it.
func (f *flow) throughHost(r *Report, p *passage) bool {
	if begins, _ := p.reached(unix.NFPROTO_INET, "output"); begins {
		return f.through(r, theHost, p, "output", "postrouting")
	}
	if begins, _ := p.reached(unix.NFPROTO_INET, "prerouting"); !begins {
		return f.bridged(r, p)
	}
	if at, _ := p.reached(unix.NFPROTO_INET, "forward"); at {
		return f.through(r, theHost, p, "prerouting", "forward", "postrouting")
	}
	if at, _ := p.reached(unix.NFPROTO_INET, "input"); at {
		if f.dest.ns != nil {
			r.end(theHost, Lost, "it ends at the host itself: nobody translates it", "berth reload puts the rule for the published port back")
			return false
		}
		return f.through(r, theHost, p, "prerouting", "input")
	}
	if _, past := p.reached(unix.NFPROTO_INET, "prerouting"); !past {
		return f.through(r, theHost, p, "prerouting")
	}
	if at, past := p.reached(unix.NFPROTO_BRIDGE, "forward"); at { // with br_netfilter
		return past && f.bridged(r, p)
	}
	f.unrouted(r, p)
	return false
}

// bridged follows a packet that stays within a bridge.
func (f *flow) bridged(r *Report, p *passage) bool {
	_, past := p.reached(unix.NFPROTO_BRIDGE, "postrouting")
	if past {
		r.step(theHost, OK, "the bridge passes it on")
		return true
	}
	if at, _ := p.reached(unix.NFPROTO_BRIDGE, "input"); at {
		r.guess(theHost, "the bridge hands it to the host, which does not take it", "berth reload")
		return false
	}
	f.notBridged(r)
	return false
}

// translated tells of a translation on the way.
func (f *flow) translated(r *Report, p *passage) {
	if t := p.last(); t.dst.IsValid() && t.dst != p.first.dst {
		r.step(theHost, OK, "it is translated to %s", t.dst)
	}
}

// answered follows the answer.
func (f *flow) answered(r *Report, s *sighting) {
	switch {
	case s.outcome == nil:
		if f.protocol == "udp" {
			r.step(f.dest.label, OK, "it answers")
		} else {
			r.step(f.dest.label, OK, "it accepts the connection")
		}
		r.Verdict = Arrives
		return
	case errors.Is(s.outcome, unix.ECONNREFUSED):
		r.end(f.dest.label, Refused, fmt.Sprintf("nobody listens on %s", f.listens()), "start the service, or have it listen on this address (0.0.0.0 or ::, not 127.0.0.1)")
		return
	case s.sent && !errors.Is(s.outcome, errSilent):
		r.guess(f.from.label, "it is told: "+s.outcome.Error(), "berth doctor")
		return
	}
	f.back(r, s)
}

func (f *flow) listens() string { return fmt.Sprintf("%s/%s", f.final, f.protocol) }

// back follows an answer that does not come.
func (f *flow) back(r *Report, s *sighting) {
	dest, host, source := s.legs[atDest], s.legs[atHost], s.legs[atSource]
	if dest != nil {
		if dest.back == nil {
			f.silent(r, s)
			return
		}
		if f.dropped(r, f.dest.label, f.dest, dest.back) {
			return
		}
	}
	if host != nil && host.back != nil && f.dropped(r, theHost, nil, host.back) {
		return
	}
	if host == nil || host.back == nil {
		if dest == nil {
			f.silent(r, s)
			return
		}
		r.guess(theHost, "the answer does not come to the host", "berth reload")
		return
	}
	if source != nil {
		if source.back == nil {
			r.guess(theHost, fmt.Sprintf("the answer from %s does not come back to %s", f.final, f.from.label), "berth reload")
			return
		}
		if f.dropped(r, f.from.label, &f.from, source.back) {
			return
		}
	}
	if !s.sent { // somebody else's: the answer left the host
		r.step(theHost, OK, "the answer leaves the host")
		r.Verdict = Arrives
		return
	}
	r.end(f.from.label, NotAnswers, "the answer comes back, and is not taken", "berth doctor")
}

// silent: it arrives, and nothing is sent back.
func (f *flow) silent(r *Report, s *sighting) {
	if f.dest.outside() {
		r.end(f.dest.label, NotAnswers, "it leaves the host, and no answer comes back", f.beyond())
		return
	}
	if f.protocol == "udp" {
		r.step(f.dest.label, Note, "it says nothing to an empty datagram, as most services do")
		r.Verdict = Arrives
		return
	}
	r.end(f.dest.label, NotAnswers, "it arrives, and nothing answers: the service there takes no more connections, or hangs", "look at the service")
}
