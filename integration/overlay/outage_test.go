package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// outage is how long a store is empty: as the environment says, or shorter than the time
// after which agents give back what it has lost.
func outage(t testing.TB) time.Duration {
	d := 4 * time.Second
	if text := os.Getenv("BERTH_TEST_OUTAGE"); text != "" {
		var err error
		d, err = time.ParseDuration(text)
		must(t, err)
	}
	return d
}

// ring sends 1,000 datagrams a second from each place to the next one, by IPv4.
type ring struct {
	b     *bed
	flows []*cluster.Flow
}

func (b *bed) ring(places ...*place) *ring {
	b.t.Helper()
	r := &ring{b: b}
	for i, from := range places {
		to := places[(i+1)%len(places)]
		f, err := cluster.StartFlow(from, to, to.addrs[0], time.Millisecond)
		must(b.t, err)
		r.flows = append(r.flows, f)
	}
	return r
}

// whole ends the traffic and fails the test unless nothing was lost.
func (r *ring) whole(what string) {
	r.b.t.Helper()
	sent, lost, longest := 0, 0, time.Duration(0)
	for _, f := range r.flows {
		x := f.Stop()
		sent, lost, longest = sent+x.Sent, lost+x.Lost(), max(longest, x.Longest)
		if x.Lost() != 0 || x.Err != nil {
			r.b.t.Errorf("%s: %v", what, x)
		}
	}
	r.b.t.Logf("%s: %d datagrams sent, %d lost, nothing for %v at most", what, sent, lost, longest.Round(time.Millisecond))
}

// places are a container on each host.
func (b *bed) places(network string) (all []*place) {
	for _, h := range b.Hosts {
		all = append(all, b.container(h, network+"-"+h.Name, network))
	}
	return all
}

// identities are what has to outlive a store: the networks' IDs, the nodes' tokens, the
// blocks' owners.
func (b *bed) identities() map[string]string {
	b.t.Helper()
	keys, err := b.store.Keys("/berth/v1/")
	must(b.t, err)
	all := map[string]string{}
	for k, v := range keys {
		var x struct{ ID, Token, Node string }
		family, _, _ := strings.Cut(strings.TrimPrefix(k, "/berth/v1/"), "/")
		if !slices.Contains([]string{"networks", "nodes", "blocks"}, family) {
			continue
		}
		if err := json.Unmarshal([]byte(v), &x); err != nil {
			b.t.Errorf("%s: %v", k, err)
		}
		all[k] = x.ID + x.Token + x.Node
	}
	return all
}

// hasAll waits until the store has all that it had.
func (b *bed) hasAll(what string, before map[string]string) {
	b.t.Helper()
	took := b.eventually(2*time.Minute, func() error {
		var missing []string
		now := b.identities()
		for k, v := range before {
			if now[k] != v {
				missing = append(missing, fmt.Sprintf("%s: %q, was %q", k, now[k], v))
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			return fmt.Errorf("%s: %s", what, strings.Join(missing, "\n"))
		}
		return nil
	})
	b.t.Logf("%s: all back after %v", what, took.Round(100*time.Millisecond))
}

// unbroken waits until no agent says that the store has lost anything.
func (b *bed) unbroken() {
	b.t.Helper()
	b.eventually(2*time.Minute, func() error {
		for h, a := range b.agents {
			m, err := a.Metrics()
			if err != nil {
				return err
			}
			for _, name := range []string{"berth_store_broken", "berth_store_lost_networks", "berth_store_lost_nodes", "berth_store_lost_blocks"} {
				if m[name] != 0 {
					return fmt.Errorf("%s of %s is %v", name, h.Name, m[name])
				}
			}
		}
		return nil
	})
}

// says waits until berth doctor of a host says something.
func (b *bed) says(h *cluster.Host, text string) {
	b.t.Helper()
	b.eventually(patience, func() error {
		out, err := h.Berth(append([]string{"doctor"}, b.where()...)...)
		if said := out + fmt.Sprint(err); !strings.Contains(said, text) {
			return fmt.Errorf("berth doctor does not say %q:\n%s", text, said)
		}
		return nil
	})
}

// keepFinding has a container ask for another one's name, again and again, until what is
// returned is called, which fails the test unless each had its answer.
func (b *bed) keepFinding(from, to *known, name string) (end func()) {
	stop, done := make(chan struct{}), make(chan error)
	asked := 0
	go func() {
		var errs []error
		for {
			select {
			case <-stop:
				done <- errors.Join(errs...)
				return
			case <-time.After(100 * time.Millisecond):
				asked++
				at := time.Now()
				if err := from.finds(name, to); err != nil && len(errs) < 5 {
					errs = append(errs, fmt.Errorf("question %d, at %s: %w", asked, at.Format(time.StampMilli), err))
				}
			}
		}
	}()
	return func() {
		b.t.Helper()
		close(stop)
		if err := <-done; err != nil {
			b.t.Error(err)
		}
		b.t.Logf("the name %s was asked for %d times", name, asked)
	}
}
