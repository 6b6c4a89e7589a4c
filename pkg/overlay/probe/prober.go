package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Target is a peer in one network and family, as this host should reach it.
type Target struct {
	Peer   netip.Addr // its inner address
	Local  netip.Addr // this host's, of the same family
	Device string     // this host's VXLAN device
	VNI    uint32
	MTU    int  // what should pass: the inner packet, bytes
	Alive  bool // what the store says of the peer
}

// Prober asks peers. The zero value is ready. Any number of probes may run at once.
type Prober struct {
	// Wait is how long the first try waits for an answer; the second and third wait
	// twice and four times as long. 500 ms if zero.
	Wait time.Duration
}

const (
	defaultWait = 500 * time.Millisecond
	tries       = 3
)

// Probe asks one peer: with one small packet, if it is not alive and does not answer;
// with 3 within 7 times Wait, if it is alive and does not; with 3 in two round trips,
// if all is well; with some hundred within 50 times Wait, 11 times on a fast path, if
// an MTU has to be found.
// What speaks against the path has been lost six times while small packets passed.
// A context that ends makes the verdict Failed.
func (p *Prober) Probe(ctx context.Context, t Target) Verdict {
	full := t.MTU - overhead(t.Peer)
	if full <= messageSize || full > 0xffff {
		return Verdict{State: Failed, Err: fmt.Errorf("MTU %d is out of range", t.MTU)}
	}
	s, err := dial(ctx, t.Local, netip.AddrPortFrom(t.Peer, Port), t.Device)
	if err != nil {
		return Verdict{State: Failed, Err: err}
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.SetReadDeadline(time.Unix(1, 0)) })()
	e := &exchange{ctx: ctx, socket: s, vni: t.VNI, wait: cmp.Or(p.Wait, defaultWait), tries: tries, sent: map[uint64]sent{}}

	v, err := e.verdict(full, overhead(t.Peer), t.Alive)
	if err == nil {
		return v
	}
	icmp := errors.As(err, new(icmpError))
	if !icmp && !errors.Is(err, errSilent) {
		return Verdict{State: Failed, Err: err}
	}
	v = Verdict{State: NoAnswer}
	if !t.Alive {
		v.State = Away
	}
	if icmp {
		v.Err = err
	}
	return v
}

// overhead is the size of the IP and UDP headers.
func overhead(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}
