package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// newFileBed makes hosts that have no etcd, but one file of peers, with the network blue.
func newFileBed(t testing.TB, hosts int) *bed {
	t.Helper()
	c, err := cluster.New(cluster.Options{})
	must(t, err)
	t.Cleanup(c.Close)
	b := &bed{Cluster: c, t: t, agents: map[*cluster.Host]*cluster.Agent{}, peers: filepath.Join(t.TempDir(), "peers.yaml"), networks: []string{"blue"}}
	b.bin, err = sandbox.Binaries()
	must(t, err)
	t.Cleanup(b.logs)
	for i := range hosts {
		_, err := c.Host(string(rune('a'+i)), i+1)
		must(t, err)
	}
	b.write(b.Hosts...)
	b.start(c.Hosts...)
	b.settled()
	return b
}

// write writes the file with these hosts in it, in one step.
func (b *bed) write(hosts ...*cluster.Host) {
	b.t.Helper()
	text := "networks:\n  blue:\n    subnets: [10.42.0.0/16, \"fd00:42::/48\"]\n    vni: 4242\nnodes:\n"
	for _, h := range hosts {
		text += fmt.Sprintf("  %s:\n    address: %s\n    blocks:\n      blue: [10.42.%d.0/24, \"fd00:42:0:%[3]d::/64\"]\n", h.Name, h.Addr4, h.Number)
	}
	b.replace(text)
}

func (b *bed) replace(text string) {
	b.t.Helper()
	must(b.t, os.WriteFile(b.peers+".new", []byte(text), 0o644))
	must(b.t, os.Rename(b.peers+".new", b.peers))
}

// TestStatic runs an overlay on a file of peers: hosts that are added to it and taken
// away, a file that nobody can read, and agents that are killed.
func TestStatic(t *testing.T) {
	b := newFileBed(t, 2)
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	b.reaches(one, two)
	if got := one.addrs[0].String(); !strings.HasPrefix(got, "10.42.1.") {
		t.Errorf("an address of another block than the file says: %s", got)
	}
	if out, err := b.doctor(b.Hosts[0]); err != nil {
		t.Errorf("doctor: %s", out)
	}

	tr := startTraffic(t, one, two)
	c, err := b.Host("c", 3)
	must(t, err)
	b.write(b.Hosts...)
	b.start(c)
	took := b.settled()
	three := b.container(c, "three")
	b.reaches(one, two, three)
	tr.whole("a host was added to the file")
	t.Logf("as wanted after %v", took.Round(time.Millisecond))

	tr = startTraffic(t, one, two, three)
	b.replace("nodes: [what is this?")
	b.eventually(patience, func() error {
		if s := b.status(c); !s.Store.Away || s.Store.Error == "" || !s.Ready {
			return fmt.Errorf("a file that nobody can read: %+v", s.Store)
		}
		return nil
	})
	b.reaches(three, b.container(c, "four"))
	b.agents[c].Kill()
	must(t, b.agents[c].Start()) // on what it remembers
	b.settled()
	b.write(b.Hosts...)
	b.eventually(patience, func() error {
		if s := b.status(c); s.Store.Away {
			return errors.New(s.Store.Error)
		}
		return nil
	})
	b.settled()
	tr.whole("the file could not be read for a while")

	tr = startTraffic(t, one, two)
	b.Remove(c)
	delete(b.agents, c)
	b.write(b.Hosts...)
	b.settled()
	tr.whole("a host was taken out of the file")
}
