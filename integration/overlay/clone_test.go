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
	model "github.com/berth-cni/berth/pkg/overlay"
)

// copyDisk gives a host what another one has in its data folder. The two are on one
// machine: their hardware is the same.
func copyDisk(t testing.TB, from, to *cluster.Host) {
	t.Helper()
	files := map[string][]byte{}
	must(t, from.Do(func() error {
		return filepath.WalkDir(model.DefaultDataDir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files[path], err = os.ReadFile(path)
			return err
		})
	}))
	must(t, to.Do(func() error {
		for path, data := range files {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestClone starts a host with a copy of another's disk. Not one container is added on it,
// from before its agent's start on until the store has found out, and the first one does not
// notice.
func TestClone(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	before := b.keys("blocks")
	other, err := b.Host("x", 50)
	must(t, err)
	copyDisk(t, b.Hosts[0], other)
	other.Name = b.Hosts[0].Name
	tr := startTraffic(t, one, two)
	c, err := other.Container("copy")
	must(t, err)
	n := b.network(other, "blue")
	var why string
	add := func() {
		text, err := n.AddJSON(c)
		if err == nil {
			t.Fatalf("added on the copy: %s", text)
		}
		why = err.Error()
	}
	for range 20 {
		add()
	}
	a, err := other.LaunchAgent(b.flags(other)...)
	must(t, err)
	tries := 0
	for start := time.Now(); time.Since(start) < 30*time.Second; tries++ {
		add()
		time.Sleep(10 * time.Millisecond) // and leave the cores to others
	}
	t.Logf("%d ADDs refused; at last: %s", tries, why)
	for _, want := range []string{"nothing can be added on this host", b.Hosts[0].Addr4.String(), "copy"} {
		if !strings.Contains(why, want) {
			t.Errorf("ADD: %s, want %q", why, want)
		}
	}
	if err := a.Probe("readyz"); err == nil || !strings.Contains(err.Error(), "copy") {
		t.Errorf("readyz of the copy: %v", err)
	}
	// The first one's agent starts again: the copy does not come between.
	must(t, b.agents[b.Hosts[0]].Stop())
	time.Sleep(2 * time.Second)
	must(t, b.agents[b.Hosts[0]].Start())
	add()
	late := b.container(b.Hosts[0], "late")
	b.reaches(one, two, late)
	a.Kill()
	tr.whole("a copy of a host came")
	other.Name = "x"
	b.settled()
	if after := b.keys("blocks"); after != before {
		t.Errorf("blocks before:\n%s\nafter:\n%s", before, after)
	}
}

// boot has a host lose what a boot takes, but for its containers.
func (b *bed) boot(h *cluster.Host) {
	b.t.Helper()
	b.agents[h].Kill()
	n := b.definition(h, "blue")
	must(b.t, h.Script("ip link del "+n.Device()+"\nnft flush ruleset\nrm /run/berth/agent-instance"))
}

// TestBooted boots a host at once, so that its former life has not ended in the store, and
// with the store away. It adds nothing before its agent has run, then it does.
func TestBooted(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	h, far := b.Hosts[0], b.container(b.Hosts[1], "far")
	b.container(h, "first")
	for _, away := range []bool{false, true} {
		if away {
			b.store.Stop()
		}
		b.boot(h)
		early, err := h.Container(fmt.Sprint("early-", away))
		must(t, err)
		if _, err := b.network(h, "blue").Add(early); err == nil || !strings.Contains(err.Error(), "does 'berth agent' run?") {
			t.Errorf("ADD before the agent has run: %v", err)
		}
		must(t, b.agents[h].Launch())
		took := b.eventually(patience, func() error { _, err := b.network(h, "blue").Add(early); return err })
		const ttl = 15 * time.Second // of the former life
		ready := b.eventually(2*ttl, func() error { return b.agents[h].Probe("readyz") })
		late := b.container(h, fmt.Sprint("late-", away))
		b.eventually(patience, func() error { return errors.Join(reach(late, far), reach(far, late)) })
		t.Logf("store away %v: added after %v, ready after %v more", away, took.Round(time.Millisecond), ready.Round(time.Millisecond))
		must(t, b.network(h, "blue").Del(early))
	}
	must(t, b.store.Start())
	b.settled()
}
