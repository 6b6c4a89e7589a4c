package main

import (
	"fmt"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
)

// url is that of a web server; IPv6 addresses come with brackets.
func url(addr string) string { return "http://" + addr + "/" }

func in6(addr string) string { return "[" + addr + "]" }

// showNeighbours: step 3.
func (l *lab) showNeighbours() error {
	a, b := l.query, l.web1
	l.ping(a.machine, b.got.v4)
	l.ping(a.machine, b.got.v6)
	l.get(a.machine, url(b.got.v4), b.ID, a.got.v4)
	l.get(a.machine, url(in6(b.got.v6)), b.ID, a.got.v6)
	l.get(l.host, url(b.got.v4), b.ID, gateway4)
	l.get(l.host, url(in6(b.got.v6)), b.ID, gateway6)
	return nil
}

// showOutside: step 5.
func (l *lab) showOutside() error {
	out, err := l.outside.output("ip", "route", "get", l.query.got.v4)
	l.Command(err != nil && strings.Contains(out, "unreachable"), l.outside.name, "ip route get "+l.query.got.v4, screen.LastLine(out), "unreachable")
	l.ping(l.query.machine, sandbox.OutsideAddr4)
	l.get(l.query.machine, url(sandbox.OutsideAddr4), l.outside.name, sandbox.HostAddr4)
	l.get(l.query.machine, url(in6(sandbox.OutsideAddr6)), l.outside.name, sandbox.HostAddr6)
	return nil
}

// showPublished: step 6.
func (l *lab) showPublished() error {
	const host4, host6 = sandbox.HostAddr4, sandbox.HostAddr6
	at := func(addr string) string { return url(fmt.Sprintf("%s:%d", addr, l.web2.port.HostPort)) }
	for i, group := range []struct {
		heading string
		asks    []ask
	}{
		{"From outside: web2 sees who asks.", []ask{
			{l.outside, host4, sandbox.OutsideAddr4}, {l.outside, in6(host6), sandbox.OutsideAddr6}}},
		{"From the host: by its own addresses, the bridge's, and 127.0.0.1.", []ask{
			{l.host, host4, host4}, {l.host, in6(host6), host6}, {l.host, gateway4, gateway4}, {l.host, "127.0.0.1", gateway4}}},
		{"From a neighbour and from web2 itself: the gateway stands in, so that answers come back its way.", []ask{
			{l.query.machine, host4, gateway4}, {l.query.machine, in6(host6), gateway6},
			{l.web2.machine, host4, gateway4}, {l.web2.machine, in6(host6), gateway6}}},
	} {
		if i > 0 {
			l.Space()
		}
		l.Heading(group.heading)
		for _, a := range group.asks {
			l.get(a.from, at(a.addr), l.web2.ID, a.seen)
		}
	}
	return nil
}

// ask is a request to an address of the host, and the client's address as the
// server is to see it.
type ask struct {
	from       machine
	addr, seen string
}
