package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Throughput sends TCP from one place to an address of the other for so long, over
// that many connections at a time, and returns what arrived, in bit/s.
func Throughput(from, to Place, address netip.Addr, connections int, d time.Duration) (float64, error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	var total float64
	var errs []error
	for range connections {
		client, server, err := connect(from, to, address)
		if err != nil {
			errs = append(errs, err)
			break
		}
		all.Go(func() {
			rate, err := pump(client, server, d)
			mu.Lock()
			defer mu.Unlock()
			total += rate
			errs = append(errs, err)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("throughput to %s: %w", address, err)
	}
	return total, nil
}

// pump fills a connection for so long. It closes both ends.
func pump(client, server *net.TCPConn, d time.Duration) (float64, error) {
	const chunk = 256 << 10
	start := time.Now()
	_ = client.SetWriteDeadline(start.Add(d))
	_ = server.SetReadDeadline(start.Add(d))
	var sender sync.WaitGroup
	sender.Go(func() {
		b := make([]byte, chunk)
		for {
			if _, err := client.Write(b); err != nil {
				return
			}
		}
	})
	received := 0
	var err error
	for b := make([]byte, chunk); err == nil; {
		var n int
		n, err = server.Read(b)
		received += n
	}
	took := time.Since(start)
	client.Close()
	server.Close()
	sender.Wait()
	if e := net.Error(nil); errors.As(err, &e) && e.Timeout() && received > 0 {
		err = nil
	}
	return float64(received) * 8 / took.Seconds(), err
}

// RoundTrip sends a datagram of 64 bytes from one place to an address of the other, which
// sends it back, again and again for so long. It returns the median time. The sockets
// block, so that Go's poller is not measured along.
func RoundTrip(from, to Place, address netip.Addr, d time.Duration) (time.Duration, error) {
	server, at, err := blockingUDP(to, netip.AddrPortFrom(address, 0))
	if err != nil {
		return 0, err
	}
	anywhere := netip.IPv4Unspecified()
	if address.Is6() {
		anywhere = netip.IPv6Unspecified()
	}
	client, _, err := blockingUDP(from, netip.AddrPortFrom(anywhere, 0))
	if err != nil {
		unix.Close(server)
		return 0, err
	}
	var echo sync.WaitGroup
	stop := make(chan struct{})
	echo.Go(func() {
		defer unix.Close(server)
		b := make([]byte, datagram)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, from, err := unix.Recvfrom(server, b, 0); err == nil {
				_ = unix.Sendto(server, b[:n], 0, from) // a lost one is the client's to see
			}
		}
	})
	times, err := pingPong(client, at, d)
	close(stop)
	_ = unix.Sendto(client, []byte{0}, 0, sockaddr(at)) // wakes the echo up
	unix.Close(client)
	echo.Wait()
	if err != nil {
		return 0, fmt.Errorf("round trip to %s: %w", address, err)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

func pingPong(client int, at netip.AddrPort, d time.Duration) (times []time.Duration, err error) {
	if err := unix.Connect(client, sockaddr(at)); err != nil {
		return nil, err
	}
	b := make([]byte, datagram)
	for end := time.Now().Add(d); time.Now().Before(end) || len(times) == 0; {
		start := time.Now()
		if _, err := unix.Write(client, b); err != nil {
			return nil, err
		}
		_, err := unix.Read(client, b)
		for err == unix.EINTR { // Go's preemption; a socket with a timeout is not restarted
			_, err = unix.Read(client, b)
		}
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(start))
	}
	return times, nil
}

// blockingUDP makes a socket that waits at most 1 s for a datagram.
func blockingUDP(in Place, local netip.AddrPort) (fd int, at netip.AddrPort, err error) {
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	err = in.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return 0, at, err
	}
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if err == nil {
		err = unix.Bind(fd, sockaddr(local))
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return 0, at, err
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port))
	}
	return fd, at, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Samples are measurements of one thing.
type Samples []float64

// Median is the middle one; Spread the quartiles' distance from it, in parts of it.
func (s Samples) Median() float64 { return s.at(0.5) }

// Spread: see [Samples.Median].
func (s Samples) Spread() float64 { return (s.at(0.75) - s.at(0.25)) / 2 / s.Median() }

// Of are the ratios to samples that were taken in the same rounds: what changes from
// one round to the next is in both, and goes.
func (s Samples) Of(base Samples) Samples {
	ratios := make(Samples, len(s))
	for i := range s {
		ratios[i] = s[i] / base[i]
	}
	return ratios
}

func (s Samples) at(part float64) float64 {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[int(part*float64(len(sorted)-1)+0.5)]
}

// Interleave measures each of the variants in turn, so many times, so that noise and
// drift hit all: A B, B A, A B.
func Interleave(rounds int, variants ...func() (float64, error)) ([]Samples, error) {
	all := make([]Samples, len(variants))
	order := make([]int, len(variants))
	for i := range order {
		order[i] = i
	}
	for range rounds {
		for _, i := range order {
			v, err := variants[i]()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], v)
		}
		slices.Reverse(order)
	}
	return all, nil
}
