package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/berth-cni/berth/integration/screen"
)

// showContainers: step 2.
func (l *lab) showContainers() (err error) {
	for _, c := range []struct {
		into **container
		name string
	}{{&l.web, "web"}, {&l.api, "api"}, {&l.db, "db"}, {&l.log, "log"}} {
		h := map[string]int{"web": 0, "api": 0, "db": 1, "log": 2}[c.name]
		if *c.into, err = l.showAdd(h, c.name); err != nil {
			return err
		}
	}
	l.Space()
	if err := l.showPings(); err != nil {
		return err
	}
	var errs []error
	pairs := 0
	for _, from := range l.containers() {
		for _, to := range l.containers() {
			if from != to {
				pairs++
				errs = append(errs, from.asks(to))
			}
		}
	}
	l.Space()
	l.holds(errors.Join(errs...), "%d TCP connections: each one sees the other's own address, there is no NAT in between", 2*pairs)
	return nil
}

// holds is a claim that an error speaks against.
func (l *lab) holds(err error, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if err != nil {
		text += "\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  ")
	}
	l.Claim(err == nil, "%s", text)
}

// showAdd attaches a container to one of the hosts, and compares what ADD returned with
// what it has, and with the host's blocks.
func (l *lab) showAdd(host int, name string) (*container, error) {
	h := l.hosts()[host]
	c, took, err := l.add(h, name)
	if err != nil {
		return nil, err
	}
	peer, err := h.Peer(network, false)
	if err != nil {
		return nil, err
	}
	inside, err := c.addresses()
	if err != nil {
		return nil, err
	}
	var texts []string
	good := len(inside) == len(c.prefixes)
	for i, p := range c.prefixes {
		good = good && slices.Contains(inside, p.String()) && slices.Contains(peer.Blocks, p.Masked())
		texts = append(texts, screen.Pad(p.String(), 16+6*i))
	}
	l.Claim(good, "%s on %s  eth0  %s  %s", l.Paint(screen.Bold, screen.Pad(name, 4)), h.Name, strings.Join(texts, ""),
		l.Paint(screen.Dim, fmt.Sprintf("%5.1f ms", took.Seconds()*1000)))
	return c, nil
}

// addresses are those of eth0 that are not link-local.
func (c *container) addresses() (all []string, err error) {
	err = c.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := eth0.Addrs()
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
				all = append(all, n.String())
			}
		}
		return err
	})
	return all, err
}

// showPings claims that all containers answer each other's pings; the table has the round
// trips of IPv4.
func (l *lab) showPings() error {
	const column = 13
	head := screen.Pad("", 14)
	for _, to := range l.containers() {
		head += screen.Pad(to.ID, column)
	}
	l.Heading("ping -c1, IPv4 and IPv6:")
	l.Line("      " + l.Paint(screen.Bold, head))
	for _, from := range l.containers() {
		row, good := screen.Pad(l.Paint(screen.Bold, from.ID), 5)+screen.Pad("on "+from.host.Name, 9), true
		for _, to := range l.containers() {
			cell := "·"
			if from != to {
				trip, ok := from.pings(to)
				cell, good = trip, good && ok
			}
			row += screen.Pad(cell, column)
		}
		l.Claim(good, "%s", row)
	}
	return nil
}

// pings says how long IPv4 took, and whether both families were answered.
func (c *container) pings(to *container) (trip string, ok bool) {
	ok = true
	for i, p := range to.prefixes {
		out, err := c.Output("ping", "-n", "-c1", "-W2", p.Addr().String())
		_, after, found := strings.Cut(out, "time=")
		ok = ok && err == nil && found
		if i == 0 {
			trip = screen.FirstLine(after)
		}
	}
	if !ok {
		return "no answer", false
	}
	return trip, true
}
