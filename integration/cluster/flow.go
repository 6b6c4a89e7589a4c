package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Place is where sockets are made: a *[Host] or a *sandbox.Container.
type Place interface{ Do(func() error) error }

// Flow is a sender of numbered UDP datagrams in one place and their receiver in
// another.
type Flow struct {
	send, receive *net.UDPConn
	to            netip.AddrPort
	every         time.Duration
	stop          chan struct{}
	ended         sync.WaitGroup

	mu     sync.Mutex
	report FlowReport
	seen   []bool
	last   time.Time
}

// FlowReport is what became of a flow's datagrams so far.
type FlowReport struct {
	Sent, Received  int // datagrams; none counts twice
	Twice, Reversed int // came again; came after a later one
	Longest         time.Duration
	// Longest is the longest time between two arrivals, or between the last one and
	// the end.
	Sources []netip.Addr // that the receiver has seen
	Err     error        // the last that the sender met; the datagram counts as sent
}

// Lost is the number of datagrams that did not arrive.
func (r FlowReport) Lost() int { return r.Sent - r.Received }

func (r FlowReport) String() string {
	return fmt.Sprintf("%d of %d datagrams lost (%d twice, %d out of order), none for %v at most, from %v, error %v",
		r.Lost(), r.Sent, r.Twice, r.Reversed, r.Longest.Round(time.Millisecond), r.Sources, r.Err)
}

// StartFlow sends a datagram of 64 bytes each so often from one place to an address of
// the other, until [Flow.Stop].
func StartFlow(from, to Place, address netip.Addr, every time.Duration) (*Flow, error) {
	f := &Flow{every: every, stop: make(chan struct{})}
	err := to.Do(func() (err error) {
		f.receive, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("flow to %s: %w", address, err)
	}
	f.to = f.receive.LocalAddr().(*net.UDPAddr).AddrPort()
	// Not connected: an ICMP error must not end the flow.
	err = from.Do(func() (err error) {
		f.send, err = net.ListenUDP("udp", &net.UDPAddr{})
		return err
	})
	if err != nil {
		f.receive.Close()
		return nil, fmt.Errorf("flow to %s: %w", address, err)
	}
	f.last = time.Now()
	f.ended.Go(f.sender)
	f.ended.Go(f.receiver)
	return f, nil
}

// datagram is the size of one, in bytes; its number is in the first eight, [Marker]
// behind it.
const datagram = 64

func (f *Flow) sender() {
	b := make([]byte, datagram)
	copy(b[8:], Marker)
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		// Counted first: its arrival must not find it unknown.
		f.mu.Lock()
		f.report.Sent++
		f.seen = append(f.seen, false)
		f.mu.Unlock()
		binary.BigEndian.PutUint64(b, uint64(n))
		if _, err := f.send.WriteToUDPAddrPort(b, f.to); err != nil {
			f.mu.Lock()
			f.report.Err = err
			f.mu.Unlock()
		}
	}
}

func (f *Flow) receiver() {
	b := make([]byte, datagram)
	highest := -1
	for {
		size, from, err := f.receive.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || size != datagram {
			continue
		}
		n := int(binary.BigEndian.Uint64(b))
		f.mu.Lock()
		now := time.Now()
		f.report.Longest, f.last = max(f.report.Longest, now.Sub(f.last)), now
		switch {
		case n < 0 || n >= len(f.seen): // not ours
		case f.seen[n]:
			f.report.Twice++
		default:
			f.seen[n] = true
			f.report.Received++
			if n < highest {
				f.report.Reversed++
			}
			highest = max(highest, n)
			if a := from.Addr().Unmap(); !slices.Contains(f.report.Sources, a) {
				f.report.Sources = append(f.report.Sources, a)
			}
		}
		f.mu.Unlock()
	}
}

// Report is what is known now; what is on its way counts as lost.
func (f *Flow) Report() FlowReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.report
	r.Sources = slices.Clone(r.Sources)
	r.Longest = max(r.Longest, time.Since(f.last))
	return r
}

// onTheirWay is how long the last datagrams may take.
const onTheirWay = 200 * time.Millisecond

// Stop ends the flow and returns its report. It takes 0.2 s; it may be called twice.
func (f *Flow) Stop() FlowReport {
	f.mu.Lock()
	select {
	case <-f.stop:
		f.mu.Unlock()
		return f.Report()
	default:
		close(f.stop)
	}
	f.mu.Unlock()
	last := f.Report().Longest
	time.Sleep(onTheirWay)
	f.send.Close()
	f.receive.Close()
	f.ended.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = time.Now() // the silence since the stop is no gap
	f.report.Longest = max(f.report.Longest, last)
	r := f.report
	return r
}
