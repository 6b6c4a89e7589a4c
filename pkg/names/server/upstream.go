package server

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	totalTime = 4500 * time.Millisecond // less than the 5 s that glibc waits
	tryTime   = 1500 * time.Millisecond // after it a query is sent once more, and its server is a suspect
	tcpTime   = 1500 * time.Millisecond // for an answer that was cut off

	// soon is how long a server has for itself before the next one is asked beside it.
	soon = 300 * time.Millisecond
	// plainAfter is when a query is sent again without EDNS to a server that has not
	// answered one with it yet.
	plainAfter = 500 * time.Millisecond

	// A server that did not answer is asked last for a while, and then tried with a
	// copy of somebody's query before it is trusted again.
	suspectTime = 10 * time.Second

	// How long it is remembered that a server has no EDNS, or no TCP.
	withoutEDNS = 10 * time.Minute
	withoutTCP  = 30 * time.Second
)

// upstream is a resolver, with what is known of it. It is shared by all who ask it.
type upstream struct {
	addr netip.AddrPort

	mu      sync.Mutex
	suspect time.Time // until when; zero: it answers
	probing bool
	slow    bool // its last answer took more than soon
	edns    edns
	plain   time.Time // until when it is asked without EDNS
	noTCP   time.Time // until when it is not asked by TCP
}

// edns is what is known of a server's EDNS.
type edns int

const (
	ednsUnknown edns = iota
	ednsGood
)

func (u *upstream) healthy() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.suspect.IsZero()
}

func (u *upstream) isSlow() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.slow
}

func (u *upstream) failed(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.suspect, u.probing = now.Add(suspectTime), false
}

// works notes an answer, and how long it took.
func (u *upstream) works(took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.suspect, u.probing, u.slow = time.Time{}, false, took > soon
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

// ability tells whether to ask with EDNS, and whether the server has answered so.
func (u *upstream) ability(now time.Time) (plain, good bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return now.Before(u.plain), u.edns == ednsGood
}

func (u *upstream) ednsWorks() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.edns, u.plain = ednsGood, time.Time{}
}

// ednsFails notes that a query was answered without EDNS, and with it not. Of a server
// that has answered with EDNS before it takes a second time: a packet may be lost.
func (u *upstream) ednsFails(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.edns != ednsGood {
		u.plain = now.Add(withoutEDNS)
	}
	u.edns = ednsUnknown
}

func (u *upstream) hasTCP(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !now.Before(u.noTCP)
}

func (u *upstream) tcpFails(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.noTCP = now.Add(withoutTCP)
}

// exchanger asks upstreams. turn lets few at a time open a socket: a thousand who
// are all woken by one timeout would keep the processors from who answers for the
// containers.
type exchanger struct {
	turn chan struct{}
}

func newExchanger() *exchanger { return &exchanger{make(chan struct{}, 2)} }

// ask sends a query to one server, by UDP ([talk]), and by TCP when the answer was cut
// off. Where the server has no TCP, what was left of the answer is the answer: the client
// hears that there is more.
func (x *exchanger) ask(ctx context.Context, u *upstream, q *dns.Msg) (*response, error) {
	got, err := x.udp(ctx, u, q)
	if err != nil || !got.cut || !u.hasTCP(time.Now()) {
		return got.response, err
	}
	limited, cancel := context.WithTimeout(ctx, tcpTime)
	defer cancel()
	whole, err := x.tcp(limited, u, got.asked)
	if err == nil && whole.rcode == got.rcode {
		return whole, nil
	}
	if ctx.Err() == nil {
		u.tcpFails(time.Now())
	}
	return got.response, nil
}

// tcp asks by TCP what was answered by UDP with a part.
func (x *exchanger) tcp(ctx context.Context, u *upstream, q *dns.Msg) (*response, error) {
	raw, err := q.Pack()
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.addr.String())
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
	if conn, err = written(conn, deadline, framed); err != nil {
		return nil, err
	}
	defer conn.Close()
	if raw, err = readFramed(conn); err != nil {
		return nil, err
	}
	r, _, err := newResponse(q, raw, time.Now())
	return r, err
}

// dial opens a socket to a server, from a port of its own (RFC 5452, 4.5), when it is its
// turn.
func (x *exchanger) dial(ctx context.Context, u *upstream) (net.Conn, error) {
	select {
	case x.turn <- struct{}{}:
		defer func() { <-x.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.addr))
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
