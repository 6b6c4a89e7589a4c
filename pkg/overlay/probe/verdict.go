package probe

import (
	"fmt"
	"time"
)

// State is what a probe has found on the way to a peer.
type State int

const (
	// OK: all questions were answered.
	OK State = iota
	// Away: no answer, of a peer that the store says is not alive.
	Away
	// NoAnswer: no answer, of a peer that is alive. Something drops VXLAN packets, or
	// the peer's agent does not answer (Err is then ECONNREFUSED).
	NoAnswer
	// SmallMTU: small packets pass, those of the whole MTU do not.
	SmallMTU
	// BadChecksum: packets pass whose checksum the kernel computes, those do not that
	// leave it to this host's devices. The remedy is SetChecksumOffload of package vxlan.
	BadChecksum
	// Failed: this host could not ask: no device, no address, or its own firewall
	// forbids. Err says what. A missing route is not found: probes are bound to the
	// device, where the kernel takes a peer for a neighbour.
	Failed
)

// String is the state's word, for metrics.
func (s State) String() string {
	words := [...]string{"ok", "away", "no-answer", "small-mtu", "bad-checksum", "failed"}
	if s < 0 || int(s) >= len(words) {
		return fmt.Sprintf("state-%d", int(s))
	}
	return words[s]
}

// Verdict is the outcome of a probe.
type Verdict struct {
	State State
	RTT   time.Duration // there and back, of a small packet; 0 without an answer
	MTU   int           // the largest inner packet known to pass, bytes; 0 for none
	Err   error         // what the kernel said, if State is NoAnswer, Away or Failed
}

// String is a line for people.
func (v Verdict) String() string {
	switch v.State {
	case OK:
		return fmt.Sprintf("ok, round trip %s", v.RTT.Round(time.Microsecond))
	case Away:
		return "peer is not alive"
	case NoAnswer:
		if v.Err != nil {
			return fmt.Sprintf("no answer: %v", v.Err)
		}
		return "no answer, though the peer is alive: is the VXLAN port blocked on the way?"
	case SmallMTU:
		return fmt.Sprintf("packets of more than %d bytes do not pass", v.MTU)
	case BadChecksum:
		return "packets whose checksum is left to the device do not pass"
	}
	return fmt.Sprintf("could not ask: %v", v.Err)
}
