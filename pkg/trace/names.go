package trace

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
)

// answerTime is how long the answer to a question for a name is waited for.
const answerTime = 2 * time.Second

// resolver is who answers a container's questions for names: the gateway of its first
// network with names.
func (e *endpoint) resolver() (server netip.Addr, network string) {
	for _, r := range e.records {
		if !named(r) {
			continue
		}
		for _, a := range r.Addresses {
			if a.Gateway.IsValid() && !a.Gateway.IsLinkLocalUnicast() {
				return a.Gateway, r.Network
			}
		}
	}
	return netip.Addr{}, ""
}

func named(r *attach.Attachment) bool {
	return slices.ContainsFunc(r.Steps, func(s attach.Step) bool { _, ok := s.(*names.Register); return ok })
}

// lookup asks for the addresses of a name from inside a container's namespace.
func (e *endpoint) lookup(server netip.Addr, name string) (found []netip.Addr, err error) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		var conn net.Conn
		err := e.ns.Do(func() (err error) {
			conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 53)))
			return err
		})
		if err != nil {
			return nil, err
		}
		c := &dns.Client{Timeout: answerTime}
		answer, _, err := c.ExchangeWithConn(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), &dns.Conn{Conn: conn})
		conn.Close()
		if err != nil {
			return nil, err
		}
		if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
			return nil, fmt.Errorf("the answer is %s", dns.RcodeToString[answer.Rcode])
		}
		for _, rr := range answer.Answer {
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			}
			if a, ok := netip.AddrFromSlice(ip); ok {
				found = append(found, a.Unmap())
			}
		}
	}
	return found, nil
}

// lookName asks for the target by its name, as the source does, where both are on a network
// with names and the question has a name.
func (f *flow) lookName(r *Report) {
	if f.from.ns == nil || f.to.ns == nil || f.to.addr.IsValid() || f.within() {
		return
	}
	server, network := f.from.resolver()
	if !server.IsValid() || !slices.ContainsFunc(f.to.records, func(x *attach.Attachment) bool {
		return x.Network == network && slices.Contains(names.Registered(x), strings.ToLower(f.word))
	}) {
		return
	}
	found, err := f.from.lookup(server, f.word)
	switch {
	case err != nil:
		r.end(f.from.label, Lost, fmt.Sprintf("its question for the name %s is not answered at %s: %v", f.word, server, err), "berth doctor")
	case !slices.ContainsFunc(found, func(a netip.Addr) bool { return f.to.record(a) != nil && holds(f.to.record(a), a) }):
		r.end(f.from.label, Lost, fmt.Sprintf("the name %s leads to %v, and not to the container", f.word, found), "berth reload")
	default:
		r.step(f.from.label, OK, "the name %s leads to %s", f.word, found[0])
	}
}

// elsewhere is a container of another host, whose name the source knows.
func (c *Config) elsewhere(from *endpoint, word string) (e endpoint, ok bool) {
	server, _ := from.resolver()
	if from.ns == nil || !server.IsValid() {
		return e, false
	}
	found, err := from.lookup(server, word)
	if err != nil || len(found) == 0 {
		return e, false
	}
	e, err = c.at(found[0])
	if e.outside() {
		e.label = word
	}
	return e, err == nil
}
