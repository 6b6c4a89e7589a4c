package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// question is one for the name of a container, asked as the container itself asks:
// from inside its namespace, at port 53 of its gateway. So it passes the bridge, the
// redirection, the host's firewalls and the agent.
type question struct {
	Network   string
	Container string
	Bridge    string // by which it comes
	Name      string
	Server    netip.Addr
	Err       error // nil: it was answered with one of the container's addresses

	fd    int
	query []byte
	id    uint16
	want  []netip.Addr
}

// questionTime is how long all answers together are waited for. The agent takes
// microseconds.
const questionTime = 200 * time.Millisecond

// askNames asks for one name on each network, that of a container that is alive.
func askNames(all []*attach.Attachment) []question {
	var asked []question
	seen := map[string]bool{}
	for _, a := range all {
		for _, s := range a.Steps {
			r, ok := s.(*names.Register)
			if !ok || len(r.Names) == 0 || seen[a.Network] {
				continue
			}
			for _, addr := range a.Addresses {
				if addr.Gateway.IsValid() {
					seen[a.Network] = true
					asked = append(asked, ask(a, r, addr.Gateway))
					break
				}
			}
		}
	}
	end := time.Now().Add(questionTime)
	for i := range asked {
		asked[i].await(end)
	}
	return asked
}

// ask sends the question.
func ask(a *attach.Attachment, r *names.Register, server netip.Addr) question {
	q := question{Network: a.Network, Container: containerName(a), Bridge: r.Bridge, Name: r.Names[0], Server: server, fd: -1}
	for _, addr := range a.Addresses {
		if addr.Prefix.Addr().Is4() == server.Is4() {
			q.want = append(q.want, addr.Prefix.Addr())
		}
	}
	kind := dns.TypeA
	if server.Is6() {
		kind = dns.TypeAAAA
	}
	m := new(dns.Msg).SetQuestion(dns.Fqdn(q.Name), kind)
	q.id = m.Id
	if q.query, q.Err = m.Pack(); q.Err != nil {
		return q
	}
	if q.fd, q.Err = socketIn(a.Netns, server.Is4()); q.Err == nil {
		const port = 53
		var to unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: server.As16()}
		if server.Is4() {
			to = &unix.SockaddrInet4{Port: port, Addr: server.As4()}
		}
		q.Err = unix.Sendto(q.fd, q.query, 0, to)
	}
	return q
}

// await takes the answer.
func (q *question) await(end time.Time) {
	if q.fd >= 0 {
		defer unix.Close(q.fd)
	}
	if q.Err != nil {
		q.Err = fmt.Errorf("ask: %w", q.Err)
		return
	}
	poll := []unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, int(max(0, time.Until(end).Milliseconds())))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = errors.New("no answer")
		}
		buf := make([]byte, dns.MaxMsgSize)
		if err == nil {
			n, _, err = unix.Recvfrom(q.fd, buf, 0)
		}
		if err == nil {
			err = q.judge(buf[:n])
		}
		q.Err = err
		return
	}
}

func (q *question) judge(data []byte) error {
	var m dns.Msg
	if err := m.Unpack(data); err != nil || m.Id != q.id {
		return errors.Join(err, errors.New("something else than an answer came back"))
	}
	for _, rr := range m.Answer {
		var ip netip.Addr
		switch r := rr.(type) {
		case *dns.A:
			ip, _ = netip.AddrFromSlice(r.A.To4())
		case *dns.AAAA:
			ip, _ = netip.AddrFromSlice(r.AAAA)
		}
		for _, want := range q.want {
			if ip == want {
				return nil
			}
		}
	}
	return fmt.Errorf("the answer is %s with %d addresses, none of them the container's: is it another DNS server?",
		dns.RcodeToString[m.Rcode], len(m.Answer))
}

// socketIn opens a UDP socket in the namespace of a path. Sockets stay in the namespace
// that they were opened in (network_namespaces(7)).
func socketIn(netns string, v4 bool) (fd int, err error) {
	ns, err := os.Open(netns)
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	defer own.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("enter namespace %s: %w", netns, err)
	}
	family := unix.AF_INET6
	if v4 {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return fd, errors.Join(err, fmt.Errorf("leave namespace %s: %w", netns, back)) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return fd, err
}
