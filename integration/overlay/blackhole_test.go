package overlay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// findTime is how long a black hole may go unfound: a peer's turn comes every 15 s, and
// an MTU takes some 6 s to find.
const findTime = 40 * time.Second

// TestBlackHoles has the underlay drop VXLAN packets to one host, and large packets to
// another. The first host's agent finds both and says which is which; and that they are
// gone, when they are.
func TestBlackHoles(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{})
	h, blocked, narrow := b.Hosts[0], b.Hosts[1], b.Hosts[2]
	one, two, three := b.container(h, "one"), b.container(blocked, "two"), b.container(narrow, "three")
	b.reaches(one, two, three)
	b.finds(h, map[string]string{}, map[string]float64{"ok": 4, "no-answer": 0, "small-mtu": 0, "bad-checksum": 0, "failed": 0})
	if out, err := b.doctor(h); err != nil {
		t.Errorf("doctor, with nothing wrong: %v", out)
	}

	const room, inside = 1400, 1350 // bytes: of an underlay packet, and of the packet in it
	must(t, b.DropUDP(4789, blocked))
	must(t, b.DropLarger(room, narrow))
	took := b.finds(h, map[string]string{
		blocked.Name: "no-answer: no answer, though the peer is alive: is the VXLAN port blocked on the way?",
		narrow.Name:  fmt.Sprintf("small-mtu: packets of more than %d bytes do not pass", inside),
	}, map[string]float64{"ok": 0, "no-answer": 2, "small-mtu": 2, "bad-checksum": 0, "failed": 0})
	t.Logf("found after %v", took.Round(time.Millisecond))
	out, err := b.doctor(h)
	for _, want := range []string{
		"network blue: to b (for ", "is the VXLAN port blocked", "let UDP port 4789 pass",
		"network blue: to c (for ", fmt.Sprintf("packets of more than %d bytes do not pass", inside), "let packets of the underlay's MTU (1500) pass",
	} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("doctor (%v): no %q in:\n%s", err, want, out)
		}
	}
	// The verdicts are true.
	if err := reach(one, two); err == nil {
		t.Error("a host is reached whose VXLAN packets are dropped")
	}
	must(t, reach(one, three))
	const headers = 28
	ping := func(size int) error {
		_, err := one.Output("ping", "-c1", "-W1", "-Mdo", "-s", fmt.Sprint(size-headers), three.addrs[0].String())
		return err
	}
	if err := ping(inside + 1); ping(inside) != nil || err == nil {
		t.Errorf("%d bytes: %v; %d: %v", inside, ping(inside), inside+1, err)
	}

	must(t, b.Clear())
	took = b.finds(h, map[string]string{}, map[string]float64{"ok": 4, "no-answer": 0, "small-mtu": 0, "bad-checksum": 0, "failed": 0})
	t.Logf("found gone after %v", took.Round(time.Millisecond))
	if out, err := b.doctor(h); err != nil {
		t.Errorf("doctor, with nothing wrong any more: %v", out)
	}
	b.reaches(one, two, three)
}

// doctor runs the doctor on a host: an error unless it finds nothing.
func (b *bed) doctor(h *cluster.Host) (string, error) {
	return h.Berth(append([]string{"doctor"}, b.where()...)...)
}

// finds waits until a host's /status and /metrics say what is wanted: of each peer that
// fails its state and verdict, and how many peers have which verdict, counted in each
// family. It returns how long that took.
func (b *bed) finds(h *cluster.Host, failing map[string]string, counts map[string]float64) time.Duration {
	b.t.Helper()
	return b.eventually(findTime, func() error {
		s := b.status(h)
		if len(s.Networks) != 1 {
			return fmt.Errorf("/status of %s: %d networks", h.Name, len(s.Networks))
		}
		got := map[string]string{}
		for _, f := range s.Networks[0].Probes.Failing {
			got[f.Peer] = f.State + ": " + f.Verdict
		}
		if fmt.Sprint(got) != fmt.Sprint(failing) {
			return fmt.Errorf("/status of %s: %v, want %v", h.Name, got, failing)
		}
		samples, err := b.agents[h].Metrics()
		if err != nil {
			return err
		}
		for verdict, want := range counts {
			name := fmt.Sprintf("berth_probe_peers{network=%q,verdict=%q}", "blue", verdict)
			if got, ok := samples[name]; !ok || got != want {
				return fmt.Errorf("/metrics of %s: %s is %v, want %v", h.Name, name, got, want)
			}
		}
		return nil
	})
}

// status is what of /status the tests look at.
type status struct {
	Ready bool
	Store struct {
		Away  bool
		Error string
	}
	Networks []struct {
		Keyless []string
		Probes  struct {
			OK      int
			Failing []struct{ Peer, State, Verdict string }
		}
	}
}

// status is what a host's agent says of itself.
func (b *bed) status(h *cluster.Host) (s status) {
	b.t.Helper()
	text, err := h.Get("http://127.0.0.1:9477/status")
	must(b.t, err)
	must(b.t, json.Unmarshal([]byte(text), &s))
	return s
}
