package trace

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// theHost is what the host is called in a question.
const theHost = "host"

// endpoint is where a flow begins or ends.
type endpoint struct {
	label   string
	records []*attach.Attachment // of a container
	ns      *netns.Namespace     // of a container
	isHost  bool
	addr    netip.Addr // as the question has it, or not valid
}

func (e *endpoint) outside() bool { return e.ns == nil && !e.isHost }

// record is the attachment with an address; else the first.
func (e *endpoint) record(a netip.Addr) *attach.Attachment {
	for _, r := range e.records {
		if holds(r, a) {
			return r
		}
	}
	if len(e.records) > 0 {
		return e.records[0]
	}
	return nil
}

func holds(r *attach.Attachment, a netip.Addr) bool {
	return slices.ContainsFunc(r.Addresses, func(x attach.Address) bool { return x.Prefix.Addr() == a })
}

// flow is the question, resolved.
type flow struct {
	from, to endpoint
	protocol string // tcp or udp
	source   netip.Addr
	target   netip.AddrPort // as the source sends it
	// final is where it ends: the target, or what a published port leads to. dest is the
	// container there, or to.
	final     netip.AddrPort
	dest      *endpoint
	published *attach.Attachment // whose port the target is
	port      uint16             // of the source, once there is a socket
	suspects  []suspicion
	word      string // the target in the question
	// again asks with another packet which rule of iptables from before nftables drops it in
	// a namespace; nil where nothing can be sent.
	again func(*netns.Namespace) (xtRule, bool)
}

func (f *flow) close() {
	for _, e := range []*endpoint{&f.from, &f.to, f.dest} {
		if e != nil && e.ns != nil {
			e.ns.Close()
			e.ns = nil
		}
	}
}

// flow resolves the two ends.
func (c *Config) flow(from, to string) (f *flow, err error) {
	f = &flow{protocol: "tcp"}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	to, f.protocol, err = cutProtocol(to)
	if err != nil {
		return f, err
	}
	whom, port, err := cutPort(to)
	if err != nil {
		return f, err
	}
	if f.from, err = c.endpoint(from); err != nil {
		return f, fmt.Errorf("from %q: %w", host.Printable(from), err)
	}
	f.word = whom
	if f.to, err = c.endpoint(whom); err != nil {
		if e, ok := c.elsewhere(&f.from, whom); ok {
			f.to, err = e, nil
		}
	}
	if err != nil {
		return f, fmt.Errorf("to %q: %w", host.Printable(whom), err)
	}
	if f.from.outside() && f.to.outside() {
		return f, fmt.Errorf("from %q to %q: want a container or the host for one of them", host.Printable(from), host.Printable(whom))
	}
	if err := f.addresses(port); err != nil {
		return f, err
	}
	return f, f.follow(c)
}

func cutProtocol(to string) (rest, protocol string, err error) {
	rest, protocol, ok := strings.Cut(to, "/")
	if !ok {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" {
		return "", "", fmt.Errorf("protocol %q: want tcp or udp", host.Printable(protocol))
	}
	return rest, protocol, nil
}

// cutPort takes HOST:PORT apart; an IPv6 address is in brackets.
func cutPort(to string) (whom string, port uint16, err error) {
	i := strings.LastIndexByte(to, ':')
	if i <= 0 {
		return "", 0, fmt.Errorf("to %q: want CONTAINER:PORT, host:PORT or ADDRESS:PORT, with /udp for UDP", host.Printable(to))
	}
	n, err := strconv.ParseUint(to[i+1:], 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("port %q: want 1 to 65535", host.Printable(to[i+1:]))
	}
	return strings.Trim(to[:i], "[]"), uint16(n), nil
}

// endpoint is what a word stands for.
func (c *Config) endpoint(word string) (endpoint, error) {
	if word == theHost {
		return endpoint{label: theHost, isHost: true}, nil
	}
	if a, err := netip.ParseAddr(word); err == nil {
		return c.at(a.Unmap())
	}
	id, err := inspect.Find(c.Records, word)
	if err != nil {
		return endpoint{}, err
	}
	if id == "" {
		return endpoint{}, errors.New("no container of this host has this name or ID, and it is no address; 'berth ps' shows them")
	}
	return c.container(id)
}

// at is who has an address.
func (c *Config) at(a netip.Addr) (endpoint, error) {
	for _, r := range c.Records {
		if holds(r, a) && r.Role == attach.Main {
			e, err := c.container(r.Container)
			e.addr = a
			return e, err
		}
	}
	conn, err := rtnl.Dial()
	if err != nil {
		return endpoint{}, err
	}
	defer conn.Close()
	local, err := conn.IsLocal(a)
	label := a.String()
	if local {
		label = theHost
	}
	return endpoint{label: label, isHost: local, addr: a}, err
}

func (c *Config) container(id string) (endpoint, error) {
	var e endpoint
	for _, r := range c.Records {
		if r.Container == id && r.Role == attach.Main {
			e.records = append(e.records, r)
		}
	}
	if len(e.records) == 0 {
		return e, errors.New("has no attachment of its own")
	}
	e.label = names.Called(e.records[0])
	var err error
	e.ns, err = netns.Open(e.records[0].Netns)
	if err != nil {
		return e, fmt.Errorf("its network namespace is gone: %w", err)
	}
	if err := e.ns.Do(func() error { return nil }); errors.Is(err, unix.EPERM) {
		e.ns.Close()
		return e, fmt.Errorf("%w: want CAP_SYS_ADMIN, as root on the host has it and the agent's pod of Kubernetes has not", err)
	}
	return e, nil
}

// addresses chooses the family, and the addresses of both ends.
func (f *flow) addresses(port uint16) error {
	var to netip.Addr
	switch {
	case f.to.addr.IsValid():
		to = f.to.addr
	case f.to.isHost:
		to = f.hostAddress()
	default:
		to = common(f.from.records, f.to.records)
	}
	if !to.IsValid() {
		return fmt.Errorf("%s has no address that %s could send to", f.to.label, f.from.label)
	}
	f.target = netip.AddrPortFrom(to, port)
	if f.from.outside() {
		f.source = f.from.addr
		if f.source.Is4() != to.Is4() {
			return fmt.Errorf("from %s to %s: want addresses of one family", f.source, to)
		}
	}
	return nil
}

// hostAddress is the one that the host has for whom the flow comes from: the gateway of a
// container's network; towards the outside, that of the way there.
func (f *flow) hostAddress() netip.Addr {
	for _, r := range f.from.records {
		for _, a := range r.Addresses {
			if a.Gateway.IsValid() && !a.Gateway.IsLinkLocalUnicast() {
				return a.Gateway
			}
		}
	}
	if f.from.isHost {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	c, err := rtnl.Dial()
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	if f.from.addr.IsValid() {
		if w, err := c.WayTo(f.from.addr, netip.Addr{}, 0); err == nil {
			return w.Source
		}
	}
	return netip.Addr{}
}

// common is an address of the second on a network that both are on; else any, IPv4 first.
func common(from, to []*attach.Attachment) (found netip.Addr) {
	on := func(network string) bool {
		return slices.ContainsFunc(from, func(r *attach.Attachment) bool { return r.Network == network })
	}
	for _, shared := range []bool{true, false} {
		for _, r := range to {
			if on(r.Network) != shared {
				continue
			}
			for _, a := range r.Addresses {
				if !found.IsValid() || a.Prefix.Addr().Is4() && !found.Is4() {
					found = a.Prefix.Addr()
				}
			}
		}
		if found.IsValid() {
			return found
		}
	}
	return found
}

// follow finds where the flow ends: behind a published port is a container.
func (f *flow) follow(c *Config) error {
	f.final, f.dest = f.target, &f.to
	if !f.to.isHost {
		return nil
	}
	for _, r := range c.Records {
		for _, p := range r.Ports {
			if p.HostPort != f.target.Port() || p.Protocol != f.protocol ||
				p.HostIP.IsValid() && !p.HostIP.IsUnspecified() && p.HostIP != f.target.Addr() {
				continue
			}
			for _, a := range r.Addresses {
				if a.Prefix.Addr().Is4() != f.target.Addr().Is4() {
					continue
				}
				e, err := c.container(r.Container)
				if err != nil {
					return fmt.Errorf("%s:%d is published for %s: %w", f.target.Addr(), f.target.Port(), names.Called(r), err)
				}
				f.final, f.dest, f.published = netip.AddrPortFrom(a.Prefix.Addr(), p.ContainerPort), &e, r
				return nil
			}
		}
	}
	return nil
}
