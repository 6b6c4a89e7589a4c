package server

import (
	"errors"
	"net"
)

// serveUDP answers packets until the socket is closed. It does nothing that waits but
// reading.
func (l *listener) serveUDP(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	b := newBatch(raw)
	r := udpReplier{batch: b}
	for {
		n, err := b.receive()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no memory, or the bridge is down
			pause()
			continue
		}
		replies := 0
		for i := range n {
			r.index = i
			if out := l.packet(&r); out != nil {
				b.reply(replies, i, len(out))
				replies++
			}
		}
		b.send(replies)
	}
}

// packet answers one packet. A bug costs no more than its answer.
func (l *listener) packet(r *udpReplier) []byte {
	defer survive(l.server.log, "a packet")
	msg := r.batch.message(r.index)
	if msg == nil {
		return nil
	}
	return l.server.handle(l.client(r.batch.source(r.index)), msg, false, r)
}

// udpReplier answers a packet of a batch.
type udpReplier struct {
	batch *batch
	index int
}

func (r *udpReplier) later() func([]byte) { return r.batch.later(r.index) }
