package overlay

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// TestStoreEmpty: the store comes back empty, and later as it was. Nothing is lost, and
// containers are added meanwhile.
func TestStoreEmpty(t *testing.T) {
	t.Parallel()
	b := newBed(t, 4, options{})
	all := b.places("blue")
	web, db := b.named(b.Hosts[0], "blue", "web"), b.named(b.Hosts[2], "blue", "db")
	b.eventually(patience, func() error { return web.finds("db", db) })
	before := b.identities()
	r := b.ring(all...)
	found := b.keepFinding(web, db, "db")
	b.store.Stop()
	must(t, b.store.Copy("right"))
	must(t, b.store.Replace(""))
	must(t, b.store.Start())
	b.says(b.Hosts[1], "berth network restore")
	time.Sleep(outage(t) / 2)
	must(t, reach(b.named(b.Hosts[0], "blue", "meanwhile").place, all[2]))
	time.Sleep(outage(t) / 2)
	b.store.Stop()
	must(t, b.store.Replace("right"))
	must(t, b.store.Start())
	b.hasAll("the right data put back", before)
	b.unbroken()
	b.settled()
	found()
	r.whole(fmt.Sprintf("store empty for %v, and back", outage(t)))
	if now := b.identities(); !maps.Equal(now, before) {
		t.Errorf("the store has %v, and had %v", now, before)
	}
	b.reaches(all...)
}

// TestStoreGivenBack: the store stays empty. The hosts give back what it had, and a new
// host joins them.
func TestStoreGivenBack(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{})
	all := b.places("blue")
	before := b.identities()
	r := b.ring(all...)
	// One host is gone meanwhile: the others know it.
	gone := b.Hosts[2]
	b.agents[gone].Kill()
	b.store.Stop()
	must(t, b.store.Replace(""))
	must(t, b.store.Start())
	b.hasAll("given back by the agents", before)
	must(t, b.agents[gone].Start())
	b.unbroken()
	d, err := b.Host("d", 9)
	must(t, err)
	b.start(d)
	b.settled()
	r.whole("store empty for good")
	b.reaches(append(all, b.container(d, "late"))...)
}

// TestStoreRestore: one command on one host gives an empty store all that it had.
func TestStoreRestore(t *testing.T) {
	b := newBed(t, 3, options{})
	b.create("red", "--subnet", "10.43.0.0/16")
	b.settledAll("red")
	all := append(b.places("blue"), b.places("red")[0])
	b.eventually(patience, func() error { // what was used has been told
		if keys, err := b.store.Keys("/berth/v1/blocks/"); err != nil || strings.Count(fmt.Sprint(keys), `"used":true`) != 9 {
			return fmt.Errorf("%v, %v", keys, err)
		}
		return nil
	})
	before := b.identities()
	r := b.ring(all[:3]...)
	b.store.Stop()
	must(t, b.store.Replace(""))
	must(t, b.store.Start())
	dry := b.berth("network", "restore", "--dry-run")
	if !strings.Contains(dry, "network blue\n") || !strings.Contains(dry, "network red\n") {
		t.Errorf("would give back:\n%s", dry)
	}
	if keys := b.keys("networks"); keys != "" {
		t.Errorf("a dry run has written %s", keys)
	}
	b.berth("network", "restore", "red")
	if keys := b.keys("networks"); strings.Contains(keys, "blue") || !strings.Contains(keys, "red") {
		t.Errorf("red alone was asked for: %s", keys)
	}
	b.berth("network", "restore")
	b.hasAll("given back by a command", before)
	b.unbroken()
	b.settled()
	r.whole("store given back by a command")
	// Nothing is to be done any more.
	if out := b.berth("network", "restore"); !strings.Contains(out, "has all") {
		t.Errorf("again:\n%s", out)
	}
}

// TestStoreBackup: a backup from before a network was made is restored. The network
// stays, and comes back into the store; one that was removed since does not.
func TestStoreBackup(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{})
	b.create("old", "--subnet", "10.44.0.0/16")
	b.settledAll("old")
	must(t, b.store.Snapshot("backup"))
	b.berth("network", "rm", "old")
	b.networks = []string{"blue"}
	b.create("red", "--subnet", "10.43.0.0/16")
	b.settledAll("red")
	blue, red := b.places("blue"), b.places("red")
	before := b.identities()
	r, r2 := b.ring(blue...), b.ring(red...)
	b.store.Stop()
	must(t, b.store.RestoreSnapshot("backup"))
	must(t, b.store.Start())
	b.hasAll("backup restored", before)
	b.unbroken()
	b.settled()
	r.whole("old backup restored, a network from before it")
	r2.whole("old backup restored, a network from after it")
	if keys := b.keys("networks"); strings.Contains(keys, "/old") {
		t.Errorf("a network that was removed is back: %s", keys)
	}
	for _, h := range b.Hosts {
		b.eventually(patience, func() error {
			if b.network(h, "old").Status() == nil {
				return fmt.Errorf("%s: a network that was removed can be added to", h.Name)
			}
			return nil
		})
	}
}

// TestStoreSwapped: the data of before come back under the watches, and go on to a higher
// revision: the same cluster, without what was made since.
func TestStoreSwapped(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{})
	b.store.Stop()
	must(t, b.store.Copy("early"))
	must(t, b.store.Start())
	b.create("red", "--subnet", "10.43.0.0/16")
	b.settledAll("red")
	blue, red := b.places("blue"), b.places("red")
	before := b.identities()
	r, r2 := b.ring(blue...), b.ring(red...)
	b.store.Stop()
	must(t, b.store.Replace("early"))
	must(t, b.store.WriteHidden(100))
	must(t, b.store.Start())
	b.hasAll("older data swapped in", before)
	b.unbroken()
	b.settled()
	r.whole("older data swapped in, a network from before")
	r2.whole("older data swapped in, a network from after")
}

// TestRemovedUnderContainers: a network is removed without force although containers are
// on it, of which the store did not know yet. It goes on until they have left.
func TestRemovedUnderContainers(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, options{create: []string{"--subnet", "10.42.0.0/16"}})
	for _, h := range b.Hosts[:2] {
		must(t, b.agents[h].Stop()) // nobody says that the blocks are used
	}
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	r := b.ring(one, two)
	if out, err := b.Hosts[2].Berth(append([]string{"network", "rm", "blue"}, b.where()...)...); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	for _, h := range b.Hosts[:2] {
		must(t, b.agents[h].Launch())
	}
	b.says(b.Hosts[0], "network blue was removed by")
	time.Sleep(time.Second)
	must(t, b.agents[b.Hosts[0]].Stop()) // and over a restart
	must(t, b.agents[b.Hosts[0]].Launch())
	time.Sleep(time.Second)
	r.whole("network removed under containers")
	c, err := b.Hosts[0].Container("late")
	must(t, err)
	if _, err := b.network(b.Hosts[0], "blue").Add(c); err == nil {
		t.Error("ADD to a network that was removed")
	}
	for _, p := range []*place{one, two} {
		must(t, b.network(p.host, "blue").Del(p.Container))
	}
	for _, h := range b.Hosts {
		b.eventually(2*patience, func() error {
			out, err := h.Output("ip", "-br", "link")
			if err != nil || strings.Contains(out, "4097") {
				return fmt.Errorf("%s still has devices of the network: %s, %v", h.Name, out, err)
			}
			return nil
		})
	}
}

// TestRemovedByForce: with force a network is cut at once, and its bridge stays for the
// containers that are there.
func TestRemovedByForce(t *testing.T) {
	b := newBed(t, 2, options{create: []string{"--subnet", "10.42.0.0/16"}})
	one, two, near := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two"), b.container(b.Hosts[0], "near")
	b.reaches(one, two, near)
	b.berth("network", "rm", "--force", "blue")
	b.eventually(patience, func() error {
		if reach(one, two) == nil {
			return fmt.Errorf("hosts still reach each other")
		}
		return nil
	})
	b.reaches(one, near)
}

// TestCreateLost: what was made once can be made again in a store that has lost it,
// though this host has its bridge and its routes: it is the same network.
func TestCreateLost(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{create: []string{"--subnet", "10.42.0.0/16"}})
	all := b.places("blue")
	before := b.identities()
	r := b.ring(all...)
	b.store.Stop()
	must(t, b.store.Replace(""))
	must(t, b.store.Start())
	b.berth("network", "create", "--driver", "vxlan-overlay", "blue", "--subnet", "10.42.0.0/16")
	b.hasAll("made again", before)
	b.unbroken()
	b.settled()
	r.whole("network made again in an empty store")
}

// TestNodeRemoved: a host that lives is removed by force. It comes again as a new one; the
// others do not notice.
func TestNodeRemoved(t *testing.T) {
	b := newBed(t, 3, options{create: []string{"--subnet", "10.42.0.0/16"}})
	all := b.places("blue")
	before := b.identities()
	r := b.ring(all[:2]...)
	third := b.Hosts[2]
	if out, err := third.Berth(append([]string{"node", "rm", third.Name}, b.where()...)...); err == nil {
		t.Errorf("a node that lives is removed without force: %s", out)
	}
	b.berth("node", "rm", "--force", third.Name)
	b.eventually(patience, func() error {
		key := "/berth/v1/nodes/" + third.Name
		if token := b.identities()[key]; token == "" || token == before[key] {
			return fmt.Errorf("the host has token %q, and had %q", token, before[key])
		}
		return nil
	})
	b.settled()
	r.whole("another node removed by force")
	b.reaches(all...)
	if keys := b.keys("nodes"); !strings.Contains(keys, "removed/nodes/"+third.Name) {
		t.Errorf("nothing says that the node was removed: %s", keys)
	}
}
