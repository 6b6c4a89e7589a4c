package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	tryTime   = 1500 * time.Millisecond
	totalTime = 4500 * time.Millisecond // less than the 5 s that glibc waits

	// A server that did not answer is asked last for a while, and then tried with a
	// copy of somebody's query before it is trusted again.
	suspectTime = 10 * time.Second

	// foreignMost is how many packets that are no answer to the query are read while
	// waiting for the one that is.
	foreignMost = 16
)

// upstream is a resolver, with what is known of its health. It is shared by all who
// ask it.
type upstream struct {
	addr netip.AddrPort

	mu      sync.Mutex
	suspect time.Time // until when; zero: it answers
	probing bool
}

func (u *upstream) healthy() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.suspect.IsZero()
}

func (u *upstream) failed(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.suspect, u.probing = now.Add(suspectTime), false
}

func (u *upstream) works() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.suspect, u.probing = time.Time{}, false
}

// due reports whether a suspect is to be tried again, to one caller.
func (u *upstream) due(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.probing || u.suspect.IsZero() || now.Before(u.suspect) {
		return false
	}
	u.probing = true
	return true
}

// exchanger asks upstreams. turn lets few at a time open a socket: a thousand who
// are all woken by one timeout would keep the processors from who answers for the
// containers.
type exchanger struct {
	turn chan struct{}
}

func newExchanger() *exchanger { return &exchanger{make(chan struct{}, 2)} }

// ask sends a query to one server, by UDP from a port of its own (RFC 5452, 4.5), by
// TCP when the answer was cut off, without EDNS when the server does not know it.
func (x *exchanger) ask(ctx context.Context, u *upstream, q *dns.Msg) (*response, error) {
	r, m, err := x.once(ctx, "udp", u, q)
	if err == nil && m.Rcode == dns.RcodeFormatError && q.IsEdns0() != nil {
		plain := *q
		plain.Extra = nil
		q = &plain
		r, m, err = x.once(ctx, "udp", u, q)
	}
	if err == nil && m.Truncated {
		if whole, _, err := x.once(ctx, "tcp", u, q); err == nil {
			return whole, nil
		} // else the client hears that there is more, and may try itself
	}
	return r, err
}

func (x *exchanger) once(ctx context.Context, network string, u *upstream, asked *dns.Msg) (*response, *dns.Msg, error) {
	q := *asked
	q.Id = uint16(rand.Uint32()) // ChaCha8, seeded by the kernel
	raw, err := q.Pack()
	if err != nil {
		return nil, nil, err
	}
	conn, err := x.send(ctx, network, u, raw)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	read := readPacket
	if network == "tcp" {
		read = readFramed
	}
	for range foreignMost {
		raw, err := read(conn)
		if err != nil {
			return nil, nil, err
		}
		r, m, err := newResponse(&q, raw, time.Now())
		if err == nil {
			return r, m, nil
		}
		if network == "tcp" {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("%s sends what was not asked for", u.addr)
}

// send opens a socket and sends the query, when it is its turn.
func (x *exchanger) send(ctx context.Context, network string, u *upstream, raw []byte) (net.Conn, error) {
	deadline, _ := ctx.Deadline()
	if network == "tcp" { // takes as long as the other side likes
		conn, err := (&net.Dialer{}).DialContext(ctx, network, u.addr.String())
		if err != nil {
			return nil, err
		}
		framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
		return written(conn, deadline, framed)
	}
	select {
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.addr))
	if err != nil {
		return nil, err
	}
	return written(conn, deadline, raw)
}

// written writes to a connection, and closes it on an error.
func written(conn net.Conn, deadline time.Time, b []byte) (net.Conn, error) {
	err := conn.SetDeadline(deadline)
	if err == nil {
		_, err = conn.Write(b)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

var packets = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// readPacket reads one packet. The bytes are a copy of their own: a pool keeps the
// large buffer.
func readPacket(conn net.Conn) ([]byte, error) {
	buf := packets.Get().(*[4 << 10]byte)
	defer packets.Put(buf)
	n, err := conn.Read(buf[:])
	return append([]byte(nil), buf[:n]...), err
}

func readFramed(conn net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, msg)
	return msg, err
}
