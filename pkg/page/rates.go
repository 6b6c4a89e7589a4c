package page

import (
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/graph"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
)

// rates are what interfaces, networks and uplinks carry each second, in words, by what the
// picture has as data-rate: bytes, packets, and packets that are dropped. What carries nothing
// has none.
type rates map[string][3]string

// since are the rates that another page does not have; nil for those that have ended.
func (r rates) since(had rates) map[string]*[3]string {
	all := map[string]*[3]string{}
	for key, rate := range r {
		if had[key] != rate {
			all[key] = &rate
		}
	}
	for key := range had {
		if _, still := r[key]; !still {
			all[key] = nil
		}
	}
	return all
}

// meter reads the counters of the host's interfaces.
type meter struct {
	before map[string]inspect.Counters
	at     time.Time
}

// read returns what was carried since the last time: nothing at the first.
func (m *meter) read(g *graph.Graph) (rates, error) {
	counters, err := inspect.ReadCounters()
	now := time.Now()
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	before, past := m.before, now.Sub(m.at)
	m.before, m.at = counters, now
	carried := func(device string) (inspect.Traffic, bool) {
		c, ok := counters[device]
		then, had := before[device]
		return c.Behind(then, past), ok && had
	}
	all, networks := rates{}, map[string]inspect.Traffic{}
	for _, e := range g.Edges {
		if !e.Counted() {
			continue
		}
		if t, ok := carried(e.Label); ok {
			all.add(e.Label, t)
			sum := networks[e.From]
			sum.Add(t)
			networks[e.From] = sum
		}
	}
	for id, t := range networks {
		all.add(id, t)
	}
	for _, n := range g.Nodes {
		if n.Kind != graph.Uplink {
			continue
		}
		if t, ok := carried(n.Title); ok { // what comes in is received here, not behind it
			t.ReceivedBytes, t.SentBytes = t.SentBytes, t.ReceivedBytes
			t.ReceivedPackets, t.SentPackets = t.SentPackets, t.ReceivedPackets
			all.add(n.ID, t)
		}
	}
	return all, nil
}

// add adds what something carries, unless that is nothing.
func (r rates) add(key string, t inspect.Traffic) {
	text := [3]string{
		fmt.Sprintf("↓%s/s ↑%s/s", host.Bytes(t.ReceivedBytes), host.Bytes(t.SentBytes)),
		fmt.Sprintf("↓%.0f ↑%.0f packets/s", t.ReceivedPackets, t.SentPackets),
	}
	if t.Dropped >= 0.5 {
		text[2] = fmt.Sprintf("%.0f dropped/s", t.Dropped)
	}
	if t.ReceivedBytes+t.SentBytes+t.Dropped >= 0.5 {
		r[key] = text
	}
}
