package overlay

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// silence runs a flow each way between each pair of containers while something happens,
// until all of it arrives again, and returns the longest time that nothing came.
func (b *bed) silence(happens func(), places ...*place) time.Duration {
	b.t.Helper()
	var flows []*cluster.Flow
	var names []string
	for _, from := range places {
		for _, to := range places {
			for _, a := range to.addrs {
				if from == to {
					continue
				}
				f, err := cluster.StartFlow(from, to, a, time.Millisecond)
				must(b.t, err)
				flows, names = append(flows, f), append(names, fmt.Sprintf("%s to %s", from.ID, a))
			}
		}
	}
	time.Sleep(300 * time.Millisecond)
	happens()
	for i, f := range flows {
		was := f.Report()
		b.eventually(patience, func() error {
			if now := f.Report(); now.Received < was.Received+200 {
				return fmt.Errorf("%s: %v", names[i], now)
			}
			return nil
		})
	}
	b.settled()
	longest := time.Duration(0)
	for i, f := range flows {
		r := f.Stop()
		b.t.Logf("%s: %v", names[i], r)
		longest = max(longest, r.Longest)
	}
	return longest
}

// slow is when a host that follows the others only as it compares everything would
// have been noticed: it takes a fraction of a second, unless the machine is busy.
const slow = 5 * time.Second

// TestMove gives a host another underlay address under traffic, which costs the others
// nothing.
func TestMove(t *testing.T) {
	b := newBed(t, 3, options{})
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	tr := startTraffic(t, one, three)
	took := b.silence(func() { must(t, b.Hosts[1].Renumber(77)) }, one, two)
	tr.whole("another host renumbered")
	t.Logf("another address: nothing for %v", took.Round(time.Millisecond))
	if took > slow {
		t.Errorf("nothing arrived for %v", took)
	}
}

// TestSwap has two hosts change their addresses with each other.
func TestSwap(t *testing.T) {
	b := newBed(t, 3, options{})
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	took := b.silence(func() {
		must(t, b.Hosts[0].Renumber(90))
		must(t, b.Hosts[1].Renumber(1))
		must(t, b.Hosts[0].Renumber(2))
	}, one, two, three)
	t.Logf("addresses swapped: nothing for %v", took.Round(time.Millisecond))
	if took > slow {
		t.Errorf("nothing arrived for %v", took)
	}
}

// TestSwap6 is TestSwap over IPv6, whose neighbour caches outlive an address.
func TestSwap6(t *testing.T) {
	b := newBed(t, 3, options{})
	for _, a := range b.agents {
		must(t, a.Stop())
	}
	for _, h := range b.Hosts {
		only(t, h, 6)
	}
	b.launch(b.Hosts...)
	b.use(20*time.Second, 6, b.Hosts...)
	b.underlay6 = true
	b.settled()
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	took := b.silence(func() {
		h, g := b.Hosts[0], b.Hosts[1]
		must(t, h.Script(fmt.Sprintf("ip addr del %s/64 dev eth0", h.Addr6)))
		must(t, g.Script(fmt.Sprintf("ip addr del %s/64 dev eth0", g.Addr6)))
		h.Addr6, g.Addr6 = g.Addr6, h.Addr6
		must(t, h.Script(fmt.Sprintf("ip addr add %s/64 dev eth0 nodad", h.Addr6)))
		must(t, g.Script(fmt.Sprintf("ip addr add %s/64 dev eth0 nodad", g.Addr6)))
	}, one, two, three)
	t.Logf("addresses swapped: nothing for %v", took.Round(time.Millisecond))
	if took > slow {
		t.Errorf("nothing arrived for %v", took)
	}
}
