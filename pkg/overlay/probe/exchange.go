package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// packet is what a question looks like: its UDP payload, and whether its checksum is
// left to the device.
type packet struct {
	size    int
	offload bool
}

// exchange is the questions of one probe.
type exchange struct {
	ctx    context.Context
	socket *socket
	vni    uint32
	wait   time.Duration
	tries  int
	sent   map[uint64]sent // by nonce
}

type sent struct {
	packet packet
	at     time.Time
}

// errSilent: no answer, no error.
var errSilent = errors.New("no answer")

// icmpError is what the peer's host, or one on the way, sent instead of an answer.
type icmpError struct{ error }

func (e icmpError) Unwrap() error { return e.error }

// verdict asks small first: a peer that is away costs little, and what the round
// trip takes says how long to wait afterwards. Full is the whole MTU's payload.
func (e *exchange) verdict(full, overhead int, alive bool) (Verdict, error) {
	plain, offloaded, whole := packet{messageSize, false}, packet{messageSize, true}, packet{full, false}
	if !alive {
		e.tries = 1
	}
	answers, err := e.ask(plain)
	if err != nil {
		return Verdict{}, err
	}
	rtt, ok := answers[plain]
	if !ok {
		return Verdict{}, errSilent
	}
	e.tries = tries
	e.wait = min(e.wait, 4*rtt+e.wait/4)
	lost, err := e.lost(offloaded, whole)
	if err != nil {
		return Verdict{}, err
	}
	if len(lost) > 0 {
		// By chance, or since the peer has gone meanwhile?
		if lost, err = e.lost(append(lost, plain)...); err != nil {
			return Verdict{}, err
		}
	}
	v := Verdict{RTT: rtt, MTU: full + overhead}
	if slices.Contains(lost, plain) {
		return Verdict{}, errSilent
	}
	if slices.Contains(lost, whole) {
		v.State = SmallMTU
		size, err := e.largest(plain.size, whole.size)
		if err != nil {
			return Verdict{}, err
		}
		v.MTU = size + overhead
	}
	// The worse of two: nothing of a container's passes.
	if slices.Contains(lost, offloaded) {
		v.State = BadChecksum
	}
	return v, nil
}

// lost asks, and returns the packets that were not answered.
func (e *exchange) lost(packets ...packet) ([]packet, error) {
	answers, err := e.ask(packets...)
	return slices.DeleteFunc(packets, func(p packet) bool { _, ok := answers[p]; return ok }), err
}

// ask sends the packets, those again that were not answered, and returns the round
// trip of each that was. An answer to an earlier try counts, one to an earlier ask
// does not.
func (e *exchange) ask(packets ...packet) (map[packet]time.Duration, error) {
	clear(e.sent)
	answers := map[packet]time.Duration{}
	for try := range e.tries {
		for _, p := range packets {
			if _, ok := answers[p]; !ok {
				if err := e.send(p); err != nil {
					return nil, err
				}
			}
		}
		// Those of many probes fall together, so that the process wakes once.
		grain := e.wait / 8
		deadline := time.Now().Add(e.wait<<try + grain).Truncate(grain)
		if err := e.receive(deadline, answers, len(packets)); err != nil || len(answers) == len(packets) {
			return answers, err
		}
	}
	return answers, nil
}

func (e *exchange) send(p packet) error {
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails (Go 1.24)
	m := message{kind: question, size: uint16(p.size), vni: e.vni, nonce: binary.BigEndian.Uint64(nonce[:])}
	out := func() error {
		e.sent[m.nonce] = sent{p, time.Now()}
		if p.offload {
			return e.socket.sendOffloaded(m.encode())
		}
		return e.socket.sendPlain(m.encode(), nil)
	}
	err := out()
	if isSizeError(err) {
		err = out() // the error may have been about an earlier packet
	}
	switch {
	case isSizeError(err), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
		return nil // as good as lost
	case isICMP(err):
		return icmpError{err}
	case err != nil:
		return fmt.Errorf("send probe: %w", err)
	}
	return nil
}

// receive reads answers until all wanted ones are there, or the deadline.
func (e *exchange) receive(deadline time.Time, answers map[packet]time.Duration, wanted int) error {
	e.socket.SetReadDeadline(deadline)
	if err := e.ctx.Err(); err != nil {
		return err // after the deadline was set, which the context's end also sets
	}
	buf := make([]byte, messageSize+1)
	for len(answers) < wanted {
		n, err := e.socket.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return e.ctx.Err()
		case isSizeError(err):
			continue
		case isICMP(err):
			return icmpError{err}
		case err != nil:
			return fmt.Errorf("receive answer: %w", err)
		}
		m, ok := decode(buf[:n])
		q, mine := e.sent[m.nonce]
		if !ok || m.kind != answer || m.vni != e.vni || !mine || int(m.size) != q.packet.size {
			continue
		}
		if _, again := answers[q.packet]; !again {
			answers[q.packet] = time.Since(q.at)
		}
	}
	return nil
}

// isSizeError reports a packet that is larger than a device or route takes.
func isSizeError(err error) bool { return errors.Is(err, unix.EMSGSIZE) }

// isICMP reports an error that the kernel has from an ICMP message (icmp(7)).
func isICMP(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.EACCES, unix.EPROTO:
		return true
	}
	return false
}
