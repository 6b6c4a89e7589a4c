package firewall

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// BenchmarkProtection compares what an exchange of two small UDP packets costs with a
// network's protection (gateway mode nat, [Spoof]) and without, between two containers and
// from outside to a published port. It sends, receives and answers on one thread, whose CPU
// time is taken; the variants take turns, and the medians are compared.
func BenchmarkProtection(b *testing.B) {
	for b.Loop() {
		l := newSpoofLab(b, false)
		for _, path := range []struct{ name, from, to string }{{"neighbour", "b", "10.1.0.2:9000"}, {"published", "out", "192.0.2.1:9000"}} {
			taken := map[bool][]float64{}
			for range 40 {
				for _, protected := range []bool{false, true} {
					l.protect(protected)
					taken[protected] = append(taken[protected], l.exchange(path.from, "a", path.to, 3000))
				}
			}
			with, without := median(taken[true]), median(taken[false])
			b.ReportMetric(without, "ns/exchange-"+path.name)
			b.ReportMetric(with/without, "ratio-"+path.name)
		}
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// protect makes the rules of both containers anew.
func (l *spoofLab) protect(on bool) {
	mode := Plain
	if on {
		mode = NAT
	}
	for _, a := range []*attach.Attachment{l.a, l.b} {
		r := *RulesOf(a)
		r.Mode4, r.Mode6 = mode, mode
		a.Steps = []attach.Step{&r}
		if on {
			a.Steps = append(a.Steps, &Spoof{})
		}
	}
	l.a.Ports = []attach.Port{{HostPort: 9000, ContainerPort: 9000, Protocol: "udp"}}
	if err := nstest.Run("nft", "flush ruleset"); err != nil {
		l.t.Fatal(err)
	}
	all := []*attach.Attachment{l.a, l.b}
	for _, a := range all {
		for _, s := range a.Steps {
			if err := s.Add(l.t.Context(), &attach.Adding{Attachment: a, All: recordsOf(&all)}); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}

// exchange has one node ask another n times, and returns the CPU time of each, in ns.
func (l *lab) exchange(from, at, to string, n int) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	server, client := -1, -1
	nstest.In(l.t, l.ns[at], func() { server = l.udp(9000) })
	nstest.In(l.t, l.ns[from], func() { client = l.udp(0) })
	defer unix.Close(server)
	defer unix.Close(client)
	dst := netip.MustParseAddrPort(to)
	if err := unix.Connect(client, &unix.SockaddrInet4{Addr: dst.Addr().As4(), Port: int(dst.Port())}); err != nil {
		l.t.Fatal(err)
	}
	buf := make([]byte, 64)
	var before, after unix.Rusage
	for i := range n + 100 {
		if i == 100 { // the flow is there
			_ = unix.Getrusage(unix.RUSAGE_THREAD, &before)
		}
		if _, err := unix.Write(client, buf); err != nil {
			l.t.Fatal(err)
		}
		size, asker, err := unix.Recvfrom(server, buf, 0)
		if err == nil {
			err = unix.Sendto(server, buf[:size], 0, asker)
		}
		if err == nil {
			_, err = unix.Read(client, buf)
		}
		if err != nil {
			l.t.Fatal(fmt.Errorf("exchange %d from %s to %s: %w", i, from, to, err))
		}
	}
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &after)
	used := func(u unix.Rusage) int64 { return u.Utime.Nano() + u.Stime.Nano() }
	return float64(used(after)-used(before)) / float64(n)
}

// udp opens a socket of the thread's namespace, which waits for a second.
func (l *lab) udp(port int) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port})
	}
	second := unix.NsecToTimeval(time.Second.Nanoseconds())
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return fd
}
