// Package trace follows one flow of packets through the host: from a container, the host or
// an address outside, to another, and the answer's way back. It says who ends it, and what
// mends that.
//
// It looks at routes, interfaces and settings first, then sends a packet and has nftables
// tell of every rule that it meets (nft's "meta nftrace", kernel 4.6) in each of the network
// namespaces on the way. Chains of its own, the first and the last of every hook, tell how
// far the packet came where it was not nftables that dropped it: the routing decision, the
// bridge, iptables in its form from before nftables. They end with the process, by whatever end
// (nftnl.Owner).
package trace

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// Config says what is known of the host, and how to follow.
type Config struct {
	Records []*attach.Attachment
	// Wait is how long packets of somebody else's are waited for, where the flow begins
	// outside of this host; zero: not at all.
	Wait time.Duration
	// Still sends nothing: only what is there is looked at.
	Still bool
}

// State is what a step of a [Report] tells.
type State string

// The states.
const (
	OK   State = "ok"
	Bad  State = "bad"  // here it ends
	Note State = "note" // to be known, and no reason
)

// Step is something on the way.
type Step struct {
	Place string `json:"place"` // "web1", "host"
	State State  `json:"state"`
	What  string `json:"what"`
}

// Verdict is what becomes of the flow.
type Verdict string

// The verdicts.
const (
	Arrives    Verdict = "arrives"
	Refused    Verdict = "refused" // it arrives, and nobody listens
	Lost       Verdict = "lost"
	NotAnswers Verdict = "no answer" // it arrives, and nothing comes back
	Unknown    Verdict = "unknown"   // nothing was sent, and nothing is seen to be wrong
)

// Report is what was found.
type Report struct {
	From     string         `json:"from"`
	To       string         `json:"to"`
	Source   netip.Addr     `json:"source"`
	Target   netip.AddrPort `json:"target"`
	Protocol string         `json:"protocol"`
	Steps    []Step         `json:"steps"`
	Verdict  Verdict        `json:"verdict"`
	// Why says in a line who ends the flow, and Mend what changes that; both empty when it
	// arrives.
	Why  string `json:"why,omitempty"`
	Mend string `json:"mend,omitempty"`

	guessed bool // nobody was seen to drop the packet: another reason is better
}

func (r *Report) step(place string, state State, format string, args ...any) {
	r.Steps = append(r.Steps, Step{place, state, fmt.Sprintf(format, args...)})
}

// end ends the flow for a reason. The first reason is the one that counts.
func (r *Report) end(place string, v Verdict, why, mend string) {
	r.Steps = append(r.Steps, Step{place, Bad, why})
	if r.Verdict == "" {
		r.Verdict, r.Why, r.Mend = v, place+": "+why, mend
	}
}

// guess ends the flow where it was seen last, for want of a better reason.
func (r *Report) guess(place, why, mend string) {
	r.guessed = r.guessed || !r.ended()
	r.end(place, Lost, why, mend)
}

func (r *Report) ended() bool { return r.Verdict != "" }

// Follow follows the flow from a container (by its name, its ID or the start of it), "host"
// or an address, to HOST:PORT, where HOST is one of these and PORT may end in /udp. The
// error is about the question: one that cannot be asked.
func Follow(ctx context.Context, c Config, from, to string) (*Report, error) {
	f, err := c.flow(from, to)
	if err != nil {
		return nil, err
	}
	defer f.close()
	r := &Report{From: f.from.label, To: f.to.label, Source: f.source, Target: f.target, Protocol: f.protocol, Steps: []Step{}}
	if f.look(r); r.ended() {
		return r, nil
	}
	if c.Still || f.from.outside() && c.Wait == 0 {
		r.Verdict = Unknown
		return r, nil
	}
	seen, err := f.watch(ctx, c.Wait)
	if err != nil {
		r.step("host", Note, "no packet was followed: %v", err)
		r.Verdict = Unknown
		return r, nil
	}
	if seen.sent {
		f.again = func(ns *netns.Namespace) (xtRule, bool) { return f.legacyRule(ctx, ns) }
	}
	f.judge(r, seen)
	return r, nil
}
