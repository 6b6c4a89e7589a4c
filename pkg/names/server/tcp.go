package server

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// What a TCP client may take (RFC 7766, 6.2.3). One that is slow, or sends rubbish,
// keeps nobody else waiting (CVE-2024-8418), and is hung up on (CVE-2026-35406).
const (
	tcpIdle        = 10 * time.Second // to send a query, or to take an answer
	tcpLife        = 2 * time.Minute
	tcpQueries     = 1000 // of one connection
	tcpPerClient   = 16   // connections
	tcpPerListener = 256
	tcpLongest     = 4 << 10 // bytes of a query
)

var streams = sync.Pool{New: func() any { return new([2 + 1<<16 - 1]byte) }}

// serveTCP accepts connections until the socket is closed.
func (l *listener) serveTCP(tcp *net.TCPListener) {
	for {
		c, err := tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			pause()
			continue
		}
		if !l.admit(c) {
			c.SetLinger(0)
			c.Close()
			continue
		}
		go l.connection(c)
	}
}

// admit takes a connection, unless its client or all together have too many.
func (l *listener) admit(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done || len(l.conns) >= tcpPerListener {
		return false
	}
	from, same := l.peer(c), 0
	for other := range l.conns {
		if l.peer(other) == from {
			same++
		}
	}
	if same >= tcpPerClient {
		return false
	}
	l.conns[c] = true
	return true
}

func (l *listener) peer(c *net.TCPConn) client {
	return l.client(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
}

// connection answers queries one after the other.
func (l *listener) connection(c *net.TCPConn) {
	defer func() {
		c.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
	}()
	defer survive(l.server.log, "a connection")
	from, end := l.peer(c), time.Now().Add(tcpLife)
	buf := streams.Get().(*[2 + 1<<16 - 1]byte)
	defer streams.Put(buf)
	for range tcpQueries {
		deadline := time.Now().Add(tcpIdle)
		if deadline.After(end) {
			deadline = end
		}
		if c.SetDeadline(deadline) != nil {
			return
		}
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf[:]))
		if n < headerLen || n > tcpLongest {
			return
		}
		if _, err := io.ReadFull(c, buf[2:2+n]); err != nil {
			return
		}
		r := &tcpReplier{}
		out := l.server.handle(from, buf[2:2+n], true, r)
		if out == nil {
			if out = r.wait(); out == nil {
				return
			}
		}
		if c.SetDeadline(time.Now().Add(tcpIdle)) != nil || !writeFramed(c, buf, out) {
			return
		}
		if rcode := out[3] & maskRcode; rcode == rcodeFormErr || rcode == rcodeNotImp {
			return
		}
	}
}

// writeFramed writes an answer with its length before it, in one segment.
func writeFramed(c net.Conn, buf *[2 + 1<<16 - 1]byte, out []byte) bool {
	n := copy(buf[2:], out) // often they are there
	binary.BigEndian.PutUint16(buf[:], uint16(n))
	_, err := c.Write(buf[:2+n])
	return err == nil
}

// tcpReplier hands an answer to its connection's goroutine.
type tcpReplier struct{ answer chan []byte } // nil until there is something to wait for

func (r *tcpReplier) later() func([]byte) {
	r.answer = make(chan []byte, 1)
	return func(msg []byte) { r.answer <- msg }
}

// wait returns the answer; nil when there will be none.
func (r *tcpReplier) wait() []byte {
	if r.answer == nil {
		return nil
	}
	select {
	case out := <-r.answer:
		return out
	case <-time.After(2 * totalTime):
		return nil
	}
}
