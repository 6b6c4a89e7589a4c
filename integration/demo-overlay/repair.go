package main

import (
	"errors"
	"strings"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
)

// showRepair: step 5.
func (l *lab) showRepair() error {
	for i, m := range []struct {
		host    *cluster.Host
		command string
		lossy   bool // what is on its way is lost
	}{
		{l.oslo, "ip link del " + l.blue.Device(), true},
		{l.kiel, "nft flush ruleset", false},
	} {
		if i > 0 {
			l.Space()
		}
		if err := l.showDamage(m.host, m.command, m.lossy); err != nil {
			return err
		}
	}
	return nil
}

// showDamage runs a command that spoils a host, and waits until it is as it was.
func (l *lab) showDamage(h *cluster.Host, command string, lossy bool) error {
	f, err := l.web.flow(l.db)
	if err != nil {
		return err
	}
	defer f.Stop()
	if _, err := until(settleTime, func() error { return more(f, 0) }); err != nil {
		return err
	}
	table, err := h.Look("nft")
	if err != nil {
		return err
	}
	l.Quote(screen.Pad(h.Name, 8) + " $ " + command)
	start := time.Now()
	if err := h.Script(command); err != nil {
		return err
	}
	_, err = until(settleTime, func() error { return errors.Join(l.asWanted(h), sameTable(h, table)) })
	l.holds(err, "the device, FDB, neighbours, routes and firewall are as they have to be after %s", ms(time.Since(start)))
	l.holds(errors.Join(l.web.asks(l.db), l.log.asks(l.web)), "web, db and log reach each other")
	if !lossy {
		time.Sleep(pause)
		l.undisturbed("web → db ", f)
		return nil
	}
	time.Sleep(onTheWay)
	r := f.Stop()
	l.Claim(r.Longest < settleTime && r.Received > 0, "web → db   heard nothing for %s: %d of %d datagrams lost", ms(r.Longest), r.Lost(), r.Sent)
	return nil
}

// sameTable returns nil when the host's firewall is as it was, with its containers.
func sameTable(h *cluster.Host, before sandbox.Snapshot) error {
	now, err := h.Look("nft")
	if diff := before.Diff(now); err == nil && diff != nil {
		err = errors.New(strings.Join(diff, "\n"))
	}
	return err
}

// asWanted returns nil when the host's kernel has what its network asks for, and no more.
func (l *lab) asWanted(h *cluster.Host) error {
	var peers []cluster.Peer
	var self cluster.Peer
	for _, o := range l.hosts() {
		p, err := o.Peer(network, false)
		if err != nil {
			return err
		}
		if peers = append(peers, p); o == h {
			self = p
		}
	}
	got, err := h.Overlay(l.blue)
	if err != nil {
		return err
	}
	if diff := cluster.Wanted(l.blue, self, peers).Diff(got); diff != nil {
		return errors.New(strings.Join(diff, "\n"))
	}
	return nil
}
