package overlay

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// traffic is a UDP flow and a TCP stream for each address of each pair of containers,
// in both directions.
type traffic struct {
	t       testing.TB
	flows   []*cluster.Flow
	streams []*cluster.Stream
	sources []netip.Addr // of each of both
}

func startTraffic(t testing.TB, places ...*place) *traffic {
	t.Helper()
	tr := &traffic{t: t}
	for _, from := range places {
		for _, to := range places {
			if from == to {
				continue
			}
			for i, a := range to.addrs {
				f, err := cluster.StartFlow(from, to, a, 5*time.Millisecond)
				must(t, err)
				s, err := cluster.StartStream(from, to, a)
				must(t, err)
				tr.flows, tr.streams, tr.sources = append(tr.flows, f), append(tr.streams, s), append(tr.sources, from.addrs[i])
			}
		}
	}
	return tr
}

// whole ends the traffic, and fails the test unless every datagram and byte arrived
// once, in order, from the sender's own address.
func (tr *traffic) whole(what string) {
	tr.t.Helper()
	flows, streams := tr.end()
	sent, resent, longest := 0, 0, time.Duration(0)
	for i, r := range flows {
		sent += r.Sent
		longest = max(longest, r.Longest)
		if r.Lost() != 0 || r.Twice != 0 || r.Reversed != 0 || r.Err != nil || !slices.Equal(r.Sources, tr.sources[i:i+1]) {
			tr.t.Errorf("%s: a flow from %v: %v", what, tr.sources[i], r)
		}
	}
	for i, r := range streams {
		resent += r.Retransmitted
		longest = max(longest, r.Longest)
		if r.Err != nil || r.Received != r.Sent || r.Source != tr.sources[i] {
			tr.t.Errorf("%s: a stream from %v: %v", what, tr.sources[i], r)
		}
	}
	tr.t.Logf("%s: %d flows, %d datagrams, none lost; %d streams, %d segments sent again; nothing for %v at most",
		what, len(tr.flows), sent, len(tr.streams), resent, longest.Round(time.Millisecond))
}

// end ends the traffic, whatever became of it, all at the same time.
func (tr *traffic) end() ([]cluster.FlowReport, []cluster.StreamReport) {
	flows, streams := make([]cluster.FlowReport, len(tr.flows)), make([]cluster.StreamReport, len(tr.streams))
	var all sync.WaitGroup
	for i := range tr.flows {
		all.Go(func() { flows[i] = tr.flows[i].Stop() })
		all.Go(func() { streams[i] = tr.streams[i].Stop() })
	}
	all.Wait()
	return flows, streams
}
