package overlay

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHostAdded starts one more host: the others reach its containers.
func TestHostAdded(t *testing.T) {
	b := newBed(t, 2, options{})
	one := b.container(b.Hosts[0], "one")
	tr := startTraffic(t, one, b.container(b.Hosts[1], "two"))
	c, err := b.Host("c", 3)
	must(t, err)
	start := time.Now()
	b.start(c)
	ready := time.Since(start)
	three := b.container(c, "three")
	for _, from := range []*place{one, three} {
		to := map[*place]*place{one: three, three: one}[from]
		b.eventually(time.Second, func() error { return reach(from, to) })
	}
	t.Logf("ready after %v, reached after %v", ready.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	b.settled()
	tr.whole("host added")
}

// TestHostRemoved takes a host's power away. It keeps its blocks; what it owned is
// the others' once it is removed from the store.
func TestHostRemoved(t *testing.T) {
	b := newBed(t, 3, options{})
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	b.reaches(one, two, three)
	gone := b.Hosts[2]
	tr := startTraffic(t, one, two)
	b.Remove(gone)
	b.berth("node", "rm", "--force", gone.Name)
	b.settled()
	tr.whole("host removed")
	if _, err := one.Ask(three.addrs[0].String() + ":80"); err == nil || os.IsTimeout(err) {
		t.Errorf("an address of the host that is gone: %v, want it refused at once", err)
	}
	// Another host of that name is a new one.
	again, err := b.Host(gone.Name, 9)
	must(t, err)
	b.start(again)
	b.settled()
	b.reaches(one, two, b.container(again, "again"))
}

// TestHostCut cuts a host off and brings it back: the others do not notice, it keeps
// its blocks, and all is as before.
func TestHostCut(t *testing.T) {
	b := newBed(t, 3, options{})
	one, two, three := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[2], "three")
	tr := startTraffic(t, one, two)
	before, err := b.Hosts[2].Peer("blue", false)
	must(t, err)
	must(t, b.Cut(b.Hosts[2]))
	if reach(one, three) == nil {
		t.Error("a host that is cut off is reached")
	}
	local := b.container(b.Hosts[2], "meanwhile")
	b.reaches(three, local)
	must(t, b.Mend(b.Hosts[2]))
	back := b.eventually(patience, func() error { return errors.Join(reach(one, three), reach(local, two)) })
	b.settled()
	tr.whole("another host cut off")
	after, err := b.Hosts[2].Peer("blue", false)
	must(t, err)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("before it was cut off: %v, then %v", before, after)
	}
	t.Logf("back %v after the carrier", back.Round(time.Millisecond))
}

// TestSameName starts a second host with the name of a first: it is refused, and says
// why; the first does not notice.
func TestSameName(t *testing.T) {
	b := newBed(t, 2, options{})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	before := b.keys("blocks")
	other, err := b.Host("x", 50)
	must(t, err)
	other.Name = b.Hosts[0].Name
	tr := startTraffic(t, one, two)
	a, err := other.LaunchAgent(b.flags(other)...)
	must(t, err)
	b.eventually(patience, func() error {
		if err := a.Probe("readyz"); err == nil || !strings.Contains(err.Error(), "another host") {
			return fmt.Errorf("a second host with its name: %v; log:\n%s", err, a.Log())
		}
		return nil
	})
	time.Sleep(time.Second) // it tries again
	a.Kill()
	tr.whole("a second host with its name came")
	other.Name = "x"
	b.settled()
	if after := b.keys("blocks"); after != before {
		t.Errorf("blocks before:\n%s\nafter:\n%s", before, after)
	}
}

// keys are those of one kind in the store, as "blocks" or "alive".
func (b *bed) keys(kind string) string {
	b.t.Helper()
	keys, err := b.store.Keys("")
	must(b.t, err)
	var lines []string
	for k := range keys {
		if strings.Contains(k, "/"+kind+"/") {
			lines = append(lines, k)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
