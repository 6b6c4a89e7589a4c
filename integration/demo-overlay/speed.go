package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/screen"
	"github.com/berth-cni/berth/pkg/overlay"
)

// showSpeed: step 3.
func (l *lab) showSpeed() error {
	l.Heading("“By hand” is a tunnel made with ip and bridge alone, between two more hosts.")
	l.Space()
	from, to, address, err := l.byHand()
	if err != nil {
		return err
	}
	speeds, err := cluster.Measure([]cluster.Path{
		{Name: "underlay, host to host", From: l.oslo, To: l.kiel, Address: l.kiel.Addr4},
		{Name: "by hand, containers", From: from, To: to, Address: address},
		{Name: "Berth, web to db", From: l.web, To: l.db, Address: l.db.prefixes[0].Addr()},
	}, l.rounds, l.run)
	if err != nil {
		return err
	}
	l.bars(speeds)
	l.Space()
	hand, berth := speeds[1], speeds[2]
	rate, trip := fastest(berth)/fastest(hand), shortest(berth)/shortest(hand)
	l.Fast(rate >= l.least, "throughput is %.2f of that by hand, and not under %g", rate, l.least)
	l.Fast(trip <= l.most, "the round trip is %.2f of that by hand, and not over %g", trip, l.most)
	return nil
}

// fastest is the throughput of the best round, in bit/s, and shortest its round trip, in
// seconds: what else a machine does only makes them worse.
func fastest(s cluster.PathSpeed) float64 { return slices.Max(s.Throughput) }

func shortest(s cluster.PathSpeed) float64 { return slices.Min(s.RoundTrip) }

// bars draws the paths' throughput beside the fastest.
func (l *lab) bars(speeds []cluster.PathSpeed) {
	const bar = 30
	best := 0.0
	for _, s := range speeds {
		best = max(best, fastest(s))
	}
	for _, s := range speeds {
		l.Line(fmt.Sprintf("    %s %s %5.1f Gbit/s  %5.0f µs", screen.Pad(s.Name, 24),
			screen.Pad(strings.Repeat("█", int(fastest(s)/best*bar+0.5)), bar), fastest(s)/1e9, shortest(s)*1e6))
	}
}

// byHand makes two hosts with a container on each, and a tunnel between them. It returns
// when they reach each other.
func (l *lab) byHand() (from, to cluster.Place, address netip.Addr, err error) {
	n := overlay.Network{Name: "by-hand", VNI: 77, Port: overlay.DefaultPort}
	var peers []cluster.Peer
	for i, name := range []string{"hand1", "hand2"} {
		h, err := l.host(name)
		if err != nil {
			return nil, nil, address, err
		}
		const mtu = 1450
		peers = append(peers, cluster.Peer{Name: name, Address: h.Addr4, MTU: mtu,
			Blocks: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", i))}})
	}
	var places []cluster.Place
	for i, h := range l.Hosts[len(l.Hosts)-len(peers):] {
		if err := h.ByHand(n, peers[i], peers); err != nil {
			return nil, nil, address, err
		}
		c, addrs, err := h.ContainerByHand(n, peers[i], "c-"+h.Name, 1)
		if err == nil {
			err = l.made(c.ID, c)
		}
		if err != nil {
			return nil, nil, address, err
		}
		places, address = append(places, c), addrs[0]
	}
	_, err = until(settleTime, func() error {
		_, err := cluster.RoundTrip(places[0], places[1], address, 0)
		return err
	})
	return places[0], places[1], address, err
}
