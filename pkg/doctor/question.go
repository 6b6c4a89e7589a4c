package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
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

	conn *dns.Conn // nil: it could not be asked
	id   uint16
	want []netip.Addr
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
	q := question{Network: a.Network, Container: names.Called(a), Bridge: r.Bridge, Name: r.Names[0], Server: server}
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
	conn, err := dialWithin(a.Netns, server)
	if err == nil {
		q.conn = &dns.Conn{Conn: conn}
		err = q.conn.WriteMsg(m)
	}
	q.Err = err
	return q
}

// dialWithin opens a UDP socket to the server's DNS port in the namespace of a path.
func dialWithin(path string, server netip.Addr) (conn net.Conn, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	err = ns.Do(func() error {
		const port = 53
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, port)))
		return err
	})
	return conn, err
}

// await takes the answer.
func (q *question) await(end time.Time) {
	if q.conn != nil {
		defer q.conn.Close()
	}
	if q.Err != nil {
		q.Err = fmt.Errorf("ask: %w", q.Err)
		return
	}
	q.Err = q.conn.SetReadDeadline(end)
	var answer *dns.Msg
	if q.Err == nil {
		answer, q.Err = q.conn.ReadMsg()
	}
	switch {
	case errors.Is(q.Err, os.ErrDeadlineExceeded):
		q.Err = errors.New("no answer")
	case q.Err == nil:
		q.Err = q.compare(answer)
	}
}

// compare tells whether the answer is what the container has.
func (q *question) compare(m *dns.Msg) error {
	if m.Id != q.id {
		return errors.New("something else than an answer came back")
	}
	for _, rr := range m.Answer {
		var ip netip.Addr
		switch r := rr.(type) {
		case *dns.A:
			ip, _ = netip.AddrFromSlice(r.A.To4())
		case *dns.AAAA:
			ip, _ = netip.AddrFromSlice(r.AAAA)
		}
		if slices.Contains(q.want, ip) {
			return nil
		}
	}
	return fmt.Errorf("the answer is %s with %d addresses, none of them the container's: is it another DNS server?",
		dns.RcodeToString[m.Rcode], len(m.Answer))
}
