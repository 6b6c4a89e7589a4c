package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/screen"
)

// settleTime is how long something may take to be as it was: a comparison by the
// agents, or the pause between two attempts at a store.
const settleTime = 12 * time.Second

// pause is how long a step looks at a flow.
const pause = 500 * time.Millisecond

// showLost: step 4.
func (l *lab) showLost() error {
	others, err := l.web.flow(l.db)
	if err != nil {
		return err
	}
	defer others.Stop()
	cut, err := l.web.flow(l.log)
	if err != nil {
		return err
	}
	defer cut.Stop()
	had, err := l.riga.Peer(network, false)
	if err != nil {
		return err
	}
	l.Quote(fmt.Sprintf("%s $ kill -9 %d   and its cable is pulled", screen.Pad("riga", 8), l.agents[l.riga].Pid))
	l.agents[l.riga].Kill()
	if err := l.Cut(l.riga); err != nil {
		return err
	}
	time.Sleep(onTheWay)
	before := cut.Report().Received
	time.Sleep(pause)
	silent := cut.Report().Received - before
	l.Claim(silent == 0, "web → log  nothing arrives any more")
	l.holds(l.web.asks(l.db), "web → db   answers")
	l.Space()
	l.Quote(screen.Pad("riga", 8) + "   the cable is back")
	if err := l.Mend(l.riga); err != nil {
		return err
	}
	took, err := until(settleTime, func() error { return more(cut, before) })
	l.holds(err, "web → log  arrives again after %s: what the agent had made is still there", ms(took))
	l.Quote(screen.Pad("riga", 8) + " $ berth agent --underlay eth0 &")
	start := time.Now()
	if err := l.start(l.riga); err != nil {
		return err
	}
	l.holds(errors.Join(l.log.asks(l.web), l.db.asks(l.log)), "riga       ready after %s, and its containers reach and are reached", ms(time.Since(start)))
	has, err := l.riga.Peer(network, false)
	l.Claim(err == nil && fmt.Sprint(has) == fmt.Sprint(had), "riga       has the blocks it had: %v", has.Blocks)
	l.undisturbed("web → db ", others)
	return nil
}

// onTheWay is more than a datagram takes.
const onTheWay = 50 * time.Millisecond

// more returns nil when something arrived after that many datagrams.
func more(f *cluster.Flow, than int) error {
	if r := f.Report(); r.Received <= than {
		return fmt.Errorf("%s", r)
	}
	return nil
}

// undisturbed ends a flow, and claims that all of it arrived.
func (l *lab) undisturbed(name string, f *cluster.Flow) {
	r := f.Stop()
	l.Claim(r.Lost() == 0 && r.Twice == 0 && r.Err == nil && r.Sent > 0, "%s  %d datagrams meanwhile, %d lost", name, r.Sent, r.Lost())
}
