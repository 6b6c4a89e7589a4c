package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// keyOf is a host's public key, and whether it is about to be replaced.
func keyOf(h *cluster.Host) (key string, rotating bool, err error) {
	err = h.Do(func() error {
		dir := filepath.Join(model.DefaultDataDir, "wireguard")
		data, err := os.ReadFile(filepath.Join(dir, "public.key"))
		if err != nil {
			return err
		}
		key = strings.TrimSpace(string(data))
		for _, name := range []string{"next.key", "announced.key"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				rotating = true
			}
		}
		return nil
	})
	return key, rotating, err
}

// TestEncryptedRotation has hosts replace their keys under traffic: two at the same time,
// and one whose agent, and another's, are killed in the midst of it. Nothing is lost,
// and nothing is on the wire in the clear.
func TestEncryptedRotation(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{create: encrypted})
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	kill := func(hosts ...*cluster.Host) func(time.Time) {
		return func(start time.Time) {
			for i, h := range hosts {
				time.Sleep(time.Until(start.Add(time.Duration(3*(i+1)) * time.Second)))
				b.agents[h].Kill()
				must(t, b.agents[h].Start())
			}
		}
	}
	for _, c := range []struct {
		name      string
		hosts     []*cluster.Host
		meanwhile func(time.Time)
	}{
		{"two hosts", b.Hosts[1:], func(time.Time) {}},
		{"agents killed", b.Hosts[:1], kill(b.Hosts[0], b.Hosts[1], b.Hosts[0])},
	} {
		tap, err := b.Tap(nil, subnets...)
		must(t, err)
		flows := startFlows(t, one, two, three)
		start := time.Now()
		done := b.rotate(c.hosts...)
		c.meanwhile(start)
		done()
		took := time.Since(start)
		complete(t, "keys rotated, "+c.name, flows)
		if r := tap.Stop(); r.Marked+r.Inner > 0 {
			t.Errorf("%s: on the wire: %v", c.name, r)
		}
		b.reaches(one, two, three)
		t.Logf("%s: done after %v", c.name, took.Round(time.Millisecond))
	}
}

// rotate has hosts replace their keys. The function that it returns waits until they have,
// and no host has a second device any more.
func (b *bed) rotate(hosts ...*cluster.Host) (done func()) {
	b.t.Helper()
	before := map[*cluster.Host]string{}
	for _, h := range hosts {
		key, _, err := keyOf(h)
		must(b.t, err)
		before[h] = key
		_, err = h.Berth("node", "rotate-key")
		must(b.t, err)
	}
	return func() {
		b.t.Helper()
		b.eventually(90*time.Second, func() error {
			for _, h := range hosts {
				if key, rotating, err := keyOf(h); err != nil || rotating || key == before[h] {
					return fmt.Errorf("key of %s: %s, rotating %v (%v)", h.Name, key, rotating, err)
				}
			}
			return nil
		})
		b.settled()
		b.eventually(patience, func() error {
			for _, h := range b.Hosts {
				if out, err := h.Output("ip", "-br", "link"); err != nil || strings.Contains(out, b.nextDevice()) {
					return fmt.Errorf("%s: %s (%v)", h.Name, out, err)
				}
			}
			return nil
		})
	}
}

// startFlows starts a flow of 200 datagrams a second from each container to each address
// of each other one.
func startFlows(t testing.TB, places ...*place) (flows []*cluster.Flow) {
	t.Helper()
	for _, from := range places {
		for _, to := range places {
			for _, a := range to.addrs {
				if from == to {
					continue
				}
				f, err := cluster.StartFlow(from, to, a, 5*time.Millisecond)
				must(t, err)
				flows = append(flows, f)
			}
		}
	}
	return flows
}

// complete ends flows, and fails the test unless all of them arrived, in whatever order:
// for a moment there are two ways.
func complete(t testing.TB, what string, flows []*cluster.Flow) {
	t.Helper()
	sent, reversed, longest := 0, 0, time.Duration(0)
	for _, f := range flows {
		r := f.Stop()
		sent, reversed, longest = sent+r.Sent, reversed+r.Reversed, max(longest, r.Longest)
		if r.Lost() != 0 || r.Twice != 0 || r.Err != nil {
			t.Errorf("%s: %v", what, r)
		}
	}
	t.Logf("%s: %d flows, %d datagrams, %d out of order; nothing for %v at most", what, len(flows), sent, reversed, longest.Round(time.Millisecond))
}

// nextDevice is the second device of blue.
func (b *bed) nextDevice() string {
	n := b.definition(b.Hosts[0], "blue")
	return n.NextDevice()
}
