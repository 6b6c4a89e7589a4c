package trace

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// passage is the way of one packet through one network namespace.
type passage struct {
	first  tuple
	events []event
}

// passageOf is the first packet whose headers are of a kind, of all that were heard. A
// packet's number is that of its buffer and changes on the way, so that packets are told
// apart by their headers, which come once with each chain. nil: there is none.
func passageOf(all []event, is func(tuple) bool) *passage {
	p := &passage{}
	of := map[uint32]bool{} // by packet: whether its last headers were of the kind
	begun := map[string]bool{}
	for _, e := range all {
		if e.flow.known() {
			of[e.packet] = is(e.flow)
		}
		if !of[e.packet] {
			continue
		}
		if e.begins() {
			at := familyName(e.family) + e.chain
			if begun[at] { // the next packet: the first is sent again, say
				break
			}
			begun[at] = true
		}
		if len(begun) == 0 {
			continue
		}
		if !p.first.known() {
			p.first = e.flow
		}
		p.events = append(p.events, e)
	}
	if len(p.events) == 0 {
		return nil
	}
	return p
}

// begins tells whether the event is that of a rule of ours that marks a packet.
func (e *event) begins() bool {
	return e.ours && e.rule != 0 && (e.chain == "prerouting" || e.chain == "output")
}

// reached tells whether the packet came to a hook of a family's, and past all of it.
func (p *passage) reached(family uint8, hook string) (at, past bool) {
	for _, e := range p.events {
		if e.family == family && e.ours {
			at = at || e.chain == hook
			past = past || e.chain == hook+"-last"
		}
	}
	return at, past
}

// drop is the event that ended it; nil: none did.
func (p *passage) drop() *event {
	for i := range p.events {
		if p.events[i].drops {
			return &p.events[i]
		}
	}
	return nil
}

// tables are those of others that the packet passed, as "ip filter".
func (p *passage) tables() (all []string) {
	seen := map[string]bool{}
	for _, e := range p.events {
		name := familyName(e.family) + " " + e.table
		if !e.ours && !seen[name] {
			seen[name] = true
			all = append(all, name)
		}
	}
	return all
}

// last is the tuple as it was told last: behind a translation, another one.
func (p *passage) last() tuple {
	t := p.first
	for _, e := range p.events {
		if e.flow.known() && e.family != unix.NFPROTO_BRIDGE {
			t = e.flow
		}
	}
	return t
}

func familyName(family uint8) string {
	switch family {
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	case unix.NFPROTO_NETDEV:
		return "netdev"
	}
	return "arp"
}

// sighting is what was seen of the flow.
type sighting struct {
	outcome error // of the probe; errSilent where nobody sent one
	sent    bool
	legs    map[string]*leg // by place
}

// leg is the flow and its answer in one namespace; nil: not seen there.
type leg struct{ there, back *passage }

// The places.
const (
	atSource = "source"
	atHost   = "host"
	atDest   = "dest"
)

// watch sends a packet, or waits for one of somebody else's, and hears what becomes of it.
func (f *flow) watch(ctx context.Context, wait time.Duration) (*sighting, error) {
	s := &sighting{outcome: errSilent, legs: map[string]*leg{}}
	var p *probe
	if !f.from.outside() {
		var err error
		if p, err = f.newProbe(); err != nil {
			return nil, err
		}
		defer p.close()
		f.port = p.port
	}
	tracers, err := f.start()
	defer func() {
		for _, t := range tracers {
			t.stop()
		}
	}()
	if err != nil {
		return nil, err
	}
	if p != nil {
		s.outcome, s.sent = p.send(ctx), true
	} else {
		f.await(ctx, tracers, wait)
	}
	time.Sleep(settling)
	for _, t := range tracers {
		all := t.heard()
		s.legs[t.place] = &leg{
			there: passageOf(all, f.isThere),
			back:  passageOf(all, f.isBack),
		}
	}
	return s, nil
}

// await waits until the host has seen a packet of the flow.
func (f *flow) await(ctx context.Context, tracers []*tracer, wait time.Duration) {
	for end := time.Now().Add(wait); ctx.Err() == nil && time.Now().Before(end); time.Sleep(settling) {
		for _, t := range tracers {
			if t.place == atHost && passageOf(t.heard(), f.isThere) != nil {
				return
			}
		}
	}
}

// start starts the tracers of the namespaces on the way.
func (f *flow) start() (all []*tracer, err error) {
	protocol := uint8(unix.IPPROTO_TCP)
	if f.protocol == "udp" {
		protocol = unix.IPPROTO_UDP
	}
	answer := mark{src: f.final.Addr(), srcPort: f.final.Port()}
	sent := mark{dst: f.target.Addr(), dstPort: f.target.Port(), srcPort: f.port}
	if f.from.outside() {
		sent.src = f.source
	}
	add := func(place string, e *endpoint, marks ...mark) {
		if err != nil {
			return
		}
		var t *tracer
		if t, err = start(place, e.ns, protocol, marks); err == nil {
			all = append(all, t)
		}
	}
	if f.from.ns != nil {
		add(atSource, &f.from, sent, mark{src: f.target.Addr(), srcPort: f.target.Port(), dstPort: f.port})
	}
	if !f.within() {
		add(atHost, &endpoint{}, sent, answer)
		if f.dest.ns != nil {
			add(atDest, f.dest, mark{dst: f.final.Addr(), dstPort: f.final.Port()}, answer)
		}
	}
	return all, err
}

// within tells whether the flow does not leave its container.
func (f *flow) within() bool {
	return f.from.ns != nil && f.dest.ns != nil && f.from.records[0].Container == f.dest.records[0].Container
}

// isThere tells whether a packet is the flow's first, before a translation or behind it.
func (f *flow) isThere(t tuple) bool {
	if t.dst != f.target && t.dst != f.final || t.ack || f.from.outside() && t.src.Addr() != f.source {
		return false
	}
	return f.port == 0 || t.src.Port() == f.port || t.src.Addr() != f.source // translated: it may have another port
}

// isBack tells whether a packet is the answer's.
func (f *flow) isBack(t tuple) bool { return t.src == f.final || t.src == f.target }
