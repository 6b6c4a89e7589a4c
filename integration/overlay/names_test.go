package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// known is a container with a name, and what it has in its resolv.conf.
type known struct {
	*place
	n    *sandbox.Network
	opts []sandbox.Option
	conf string
}

// named makes a container that is called so on a network with names, and attaches it.
func (b *bed) named(h *cluster.Host, network, name string, opts ...sandbox.Option) *known {
	b.t.Helper()
	k := b.nameless(h, network, name, opts...)
	must(b.t, k.add())
	return k
}

// nameless is the container before it is attached.
func (b *bed) nameless(h *cluster.Host, network, name string, opts ...sandbox.Option) *known {
	b.t.Helper()
	list, err := h.Berth("network", "conflist", network) // of what the host knows: no store is named
	must(b.t, err)
	n, err := h.Network(list, b.bin)
	must(b.t, err)
	c, err := h.Container((fmt.Sprintf("%x", name) + strings.Repeat("0", 64))[:64])
	must(b.t, err)
	opts = append(opts, sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAME", name))
	return &known{&place{Container: c, host: h}, n, opts, filepath.Join(b.t.TempDir(), "resolv.conf")}
}

func (k *known) add() error {
	text, err := k.n.AddJSON(k.Container, k.opts...)
	if err != nil {
		return err
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
		DNS struct{ Nameservers, Search []string }
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return err
	}
	for _, ip := range result.IPs {
		k.addrs = append(k.addrs, ip.Address.Addr())
	}
	conf := "nameserver " + strings.Join(result.DNS.Nameservers, "\nnameserver ") + "\nsearch " + strings.Join(result.DNS.Search, " ") + "\n"
	return os.WriteFile(k.conf, []byte(conf), 0o644)
}

func (k *known) del(t testing.TB) {
	t.Helper()
	must(t, k.n.Del(k.Container, k.opts...))
}

// sh runs a line with the container's resolv.conf.
func (k *known) sh(line string) (string, error) {
	return k.Output("unshare", "-m", "sh", "-c", "mount --bind "+k.conf+" /etc/resolv.conf && "+line)
}

// finds returns nil when the name leads to the other container, which answers.
func (k *known) finds(name string, to *known) error {
	out, err := k.sh("ping -4 -c1 -W1 " + name)
	if err != nil || !strings.Contains(out, "("+to.addrs[0].String()+")") {
		return fmt.Errorf("%s pings %s: %v, want an answer of %v\n%s", k.ID, name, err, to.addrs, out)
	}
	return nil
}

// resolves returns nil when a name, or an address, leads to something.
func (k *known) resolves(name string) error {
	_, err := k.sh("getent hosts " + name)
	return err
}

// knowsNot returns nil when a name leads nowhere.
func (k *known) knowsNot(name string) error {
	if out, err := k.sh("getent ahosts " + name); err == nil {
		return fmt.Errorf("%s finds %s: %s", k.ID, name, out)
	}
	return nil
}

// TestNames: a container is reached from another host by its names soon after
// its ADD, by those of its network and no others, and is gone soon after its DEL.
func TestNames(t *testing.T) {
	b := newBed(t, 2, options{})
	b.create("green", "--subnet", "10.43.0.0/16")
	b.settledAll("green")
	one, two := b.Hosts[0], b.Hosts[1]
	web := b.named(one, "blue", "web")
	stranger := b.named(one, "green", "stranger")
	db := b.named(two, "blue", "db", sandbox.Cap("aliases", []string{"store"}))
	first := b.eventually(patience, func() error { return web.finds("db", db) })
	back := b.eventually(patience, func() error { return db.finds("web", web) })
	for _, name := range []string{"store", "db.blue", "DB", db.ID[:12] + ".blue"} {
		if err := web.finds(name, db); err != nil {
			t.Error(err)
		}
	}
	for _, a := range db.addrs {
		if out, err := web.sh("getent hosts " + a.String()); err != nil || !strings.Contains(out, "db.blue") {
			t.Errorf("reverse of %s: %q, %v", a, out, err)
		}
		if err := web.resolves(a.String()); err != nil {
			t.Error(err)
		}
	}
	if out, err := web.sh("getent ahostsv6 db"); err != nil || !strings.Contains(out, db.addrs[1].String()) {
		t.Errorf("AAAA of db: %q, %v, want %v", out, err, db.addrs)
	}
	for _, name := range []string{"db", "store", "db.blue"} {
		if err := stranger.knowsNot(name); err != nil {
			t.Error("from another network: ", err)
		}
	}
	db.del(t)
	gone := b.eventually(patience, func() error { return web.knowsNot("db") })
	t.Logf("found %v after ADD, the other way %v more, gone %v after DEL", first.Round(time.Millisecond), back.Round(time.Millisecond), gone.Round(time.Millisecond))
	var come, leave time.Duration // the longest
	for i := range 10 {
		name := fmt.Sprint("guest", i)
		guest := b.named(two, "blue", name)
		come = max(come, b.eventually(patience, func() error { return web.finds(name, guest) }))
		guest.del(t)
		leave = max(leave, b.eventually(patience, func() error { return web.knowsNot(name) }))
	}
	t.Logf("of 10 that come and go: found %v after ADD, gone %v after DEL at the latest", come.Round(time.Millisecond), leave.Round(time.Millisecond))
	// A name that moves is followed.
	again := b.named(one, "blue", "db")
	b.eventually(patience, func() error { return web.finds("db", again) })
}

// TestManyNames starts containers at once: few transactions, and all are found.
func TestManyNames(t *testing.T) {
	const n = 40
	b := newBed(t, 2, options{})
	web := b.named(b.Hosts[0], "blue", "web")
	all := make([]*known, n)
	errs := make([]error, n)
	for i := range all {
		all[i] = b.nameless(b.Hosts[1], "blue", fmt.Sprint("many", i))
	}
	before, err := b.store.Revision()
	must(t, err)
	start := time.Now()
	var wg sync.WaitGroup
	for i, k := range all {
		wg.Go(func() { errs[i] = k.add() })
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	added := time.Since(start)
	found := b.eventually(patience, func() error {
		out, err := web.sh(fmt.Sprintf("for i in $(seq 0 %d); do getent ahostsv4 many$i | head -1; done | wc -l", n-1))
		if err == nil && strings.TrimSpace(out) != fmt.Sprint(n) {
			err = fmt.Errorf("%s of %d names", strings.TrimSpace(out), n)
		}
		return err
	})
	after, err := b.store.Revision()
	must(t, err)
	t.Logf("%d ADDs in %v, all found %v later, %d transactions", n, added.Round(time.Millisecond), found.Round(time.Millisecond), after-before)
	if after-before > n/2 {
		t.Errorf("%d transactions for %d names", after-before, n)
	}
}

// TTL of a node's life in the store, and how much later it may be noticed.
const ttl, late = 15 * time.Second, 8 * time.Second

// TestNamesCut: names of a host that is cut off go with its life, and come back.
func TestNamesCut(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	web, db := b.named(b.Hosts[0], "blue", "web"), b.named(b.Hosts[1], "blue", "db")
	b.eventually(patience, func() error { return errors.Join(web.finds("db", db), db.finds("web", web)) })
	must(t, b.Cut(b.Hosts[1]))
	local := b.named(b.Hosts[1], "blue", "local")
	for name, by := range map[string]*known{"db": web, "web": db, "local": db} {
		if err := by.resolves(name); err != nil {
			t.Errorf("a moment after: %v", err)
		}
	}
	gone := b.eventually(ttl+late, func() error { return web.knowsNot("db") })
	if err := db.resolves("web"); err != nil {
		t.Errorf("the host that is cut off forgets what it knew: %v", err)
	}
	must(t, b.Mend(b.Hosts[1]))
	back := b.eventually(ttl+late, func() error { return errors.Join(web.finds("db", db), web.finds("local", local)) })
	t.Logf("gone after %v, back after %v", gone.Round(time.Millisecond), back.Round(time.Millisecond))
}

// TestNamesRestart: names stay when the agent is stopped or killed and started, and go
// when it is not.
func TestNamesRestart(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	web, db, old := b.named(b.Hosts[0], "blue", "web"), b.named(b.Hosts[1], "blue", "db"), b.named(b.Hosts[1], "blue", "old")
	b.eventually(patience, func() error { return errors.Join(web.finds("db", db), web.finds("old", old)) })
	a := b.agents[b.Hosts[1]]
	stop, failed := make(chan bool), make(chan error)
	go func() {
		var err error
		for {
			select {
			case <-stop:
				failed <- err
				return
			case <-time.After(50 * time.Millisecond):
				err = errors.Join(err, web.resolves("db"))
			}
		}
	}()
	must(t, a.Stop())
	must(t, a.Start())
	time.Sleep(time.Second)
	a.Kill()
	old.del(t) // nobody tells the store
	must(t, a.Start())
	b.eventually(patience, func() error { return web.knowsNot("old") })
	time.Sleep(ttl + 2*time.Second)
	stop <- true
	if err := <-failed; err != nil {
		t.Errorf("not found all the time: %v", err)
	}
	must(t, web.finds("db", db))
	a.Kill()
	gone := b.eventually(ttl+late, func() error { return web.knowsNot("db") })
	t.Logf("gone %v after the agent was killed", gone.Round(time.Millisecond))
	must(t, a.Start())
	b.eventually(patience, func() error { return web.finds("db", db) })
}
