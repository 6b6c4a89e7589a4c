package cluster

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stream is a TCP connection between two places that is never idle: a kilobyte every
// millisecond.
type Stream struct {
	client, server *net.TCPConn
	stop           chan struct{}
	ended          sync.WaitGroup

	mu     sync.Mutex
	report StreamReport
}

// StreamReport is how a stream fared.
type StreamReport struct {
	Sent, Received int           // bytes
	Longest        time.Duration // between two arrivals
	Retransmitted  int           // segments
	Source         netip.Addr    // that the server has seen
	Err            error         // what ended it, when it was not Stop
}

func (r StreamReport) String() string {
	return fmt.Sprintf("%d of %d bytes arrived, none for %v at most, %d segments sent again, from %v, error %v",
		r.Received, r.Sent, r.Longest.Round(time.Millisecond), r.Retransmitted, r.Source, r.Err)
}

// dialPatience is how long a connection may take to be made.
const dialPatience = 2 * time.Second

// connect makes a TCP connection from one place to an address of another.
func connect(from, to Place, address netip.Addr) (client, server *net.TCPConn, err error) {
	var l *net.TCPListener
	err = to.Do(func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	err = from.Do(func() error {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), dialPatience)
		if err == nil {
			client = conn.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = l.SetDeadline(time.Now().Add(dialPatience))
	if err == nil {
		server, err = l.AcceptTCP()
	}
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return client, server, nil
}

// StartStream connects from one place to an address of the other, and sends until
// [Stream.Stop].
func StartStream(from, to Place, address netip.Addr) (*Stream, error) {
	s := &Stream{stop: make(chan struct{})}
	var err error
	if s.client, s.server, err = connect(from, to, address); err != nil {
		return nil, fmt.Errorf("stream to %s: %w", address, err)
	}
	s.report.Source = s.server.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	s.ended.Go(s.sender)
	s.ended.Go(s.receiver)
	return s, nil
}

func (s *Stream) sender() {
	defer s.client.CloseWrite()
	b := make([]byte, 1024)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		n, err := s.client.Write(b)
		s.mu.Lock()
		s.report.Sent += n
		if err != nil {
			s.report.Err = err
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

func (s *Stream) receiver() {
	b := make([]byte, 64<<10)
	for last := time.Now(); ; {
		n, err := s.server.Read(b)
		now := time.Now()
		s.mu.Lock()
		s.report.Received += n
		s.report.Longest, last = max(s.report.Longest, now.Sub(last)), now
		if err != nil && !errors.Is(err, io.EOF) {
			s.report.Err = err
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Stop ends the stream, once, waits at most 2 s for what is on its way, and reports.
func (s *Stream) Stop() StreamReport {
	retransmitted := retransmissions(s.client)
	deadline := time.Now().Add(dialPatience)
	_ = s.client.SetWriteDeadline(deadline)
	_ = s.server.SetReadDeadline(deadline)
	close(s.stop)
	s.ended.Wait()
	s.client.Close()
	s.server.Close()
	s.report.Retransmitted = retransmitted
	return s.report
}

// retransmissions is tcpi_total_retrans of struct tcp_info.
func retransmissions(c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Total_retrans)
		}
	})
	return n
}
