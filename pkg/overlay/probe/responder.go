package probe

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// answerRate bounds what a responder reads, datagrams a second, and answers. All
// peers together ask far less (see [Schedule]); what comes faster overflows the
// socket's buffer, at no cost of ours, and a prober asks again.
const answerRate = 1000

// Responder answers the questions of peers.
type Responder struct {
	socket *socket
	vni    uint32
	known  func(netip.Addr) bool
	done   chan struct{}

	mu    sync.Mutex
	heard map[netip.Addr]time.Time
}

// Listen answers on a host's inner address, on its VXLAN device, the questions that
// carry the network's VNI and come from an address that known says is a peer's inner
// one; known may be called from another goroutine. An answer is never longer than
// the question. The socket does not outlive the device: when that was made anew, or
// has got another address, close the responder and listen again.
func Listen(addr netip.Addr, device string, vni uint32, known func(netip.Addr) bool) (*Responder, error) {
	s, err := listen(netip.AddrPortFrom(addr, Port), device)
	if err != nil {
		return nil, err
	}
	r := &Responder{socket: s, vni: vni, known: known, done: make(chan struct{}), heard: map[netip.Addr]time.Time{}}
	go r.serve()
	return r, nil
}

// Close ends the answering.
func (r *Responder) Close() error {
	err := r.socket.Close()
	<-r.done
	return err
}

// Heard says when the peer's last question came in; the zero time when none has. A
// peer that is heard and does not answer is one that our packets do not reach; the
// way from it to us is good.
func (r *Responder) Heard(peer netip.Addr) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard[peer]
}

// Forget drops what is known of a peer that has gone.
func (r *Responder) Forget(peer netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.heard, peer)
}

func (r *Responder) serve() {
	defer close(r.done)
	var limit bucket
	buf := make([]byte, 1<<16)
	for {
		n, from, err := r.socket.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		time.Sleep(limit.take(time.Now()))
		if err != nil {
			continue // an ICMP error about an answer of ours
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		m, ok := decode(buf[:n])
		if !ok || m.kind != question || m.vni != r.vni || !r.known(from.Addr()) {
			continue
		}
		r.mu.Lock()
		r.heard[from.Addr()] = time.Now()
		r.mu.Unlock()
		m.kind = answer
		_ = r.socket.sendPlain(m.encode(), sockaddr(from)) // lost; the prober asks again
	}
}

// bucket holds a tenth of a second's worth of tokens.
type bucket struct{ empty time.Time }

// take takes a token and says how long to wait for it.
func (b *bucket) take(now time.Time) time.Duration {
	const interval = time.Second / answerRate
	if full := now.Add(-time.Second / 10); b.empty.Before(full) {
		b.empty = full
	}
	b.empty = b.empty.Add(interval)
	return max(0, b.empty.Sub(now))
}
