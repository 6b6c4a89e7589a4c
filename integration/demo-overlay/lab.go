package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
	"github.com/berth-cni/berth/pkg/overlay"
)

// The network of the demo.
const (
	network = "blue"
	subnet4 = "10.42.0.0/16"
	subnet6 = "fd00:42::/48"
)

// lab is the underlay with the hosts, the store, and what runs on them.
type lab struct {
	*screen.Screen
	*cluster.Cluster
	effort
	before           machine // this one, before all
	store            *cluster.Etcd
	oslo, kiel, riga *cluster.Host
	agents           map[*cluster.Host]*cluster.Agent
	bare             map[*cluster.Host]sandbox.Snapshot // the hosts before their agents came
	conflist         string
	blue             overlay.Network
	// The containers, and the one that comes while the store is away.
	web, api, db, log, late *container
	namespaces              map[uint64]string // network namespaces that were made: inode and owner
	pids                    []int             // of processes that were started to stay
	closed                  bool
}

// container is one that a runtime made, and what ADD gave it.
type container struct {
	*sandbox.Container
	host     *cluster.Host
	net      *sandbox.Network
	prefixes []netip.Prefix // its addresses
}

func newLab(s *screen.Screen, e effort) (*lab, error) {
	l := &lab{Screen: s, effort: e, agents: map[*cluster.Host]*cluster.Agent{}, bare: map[*cluster.Host]sandbox.Snapshot{}, namespaces: map[uint64]string{}}
	var err error
	if l.before, err = lookAtMachine(); err != nil {
		return nil, err
	}
	if l.Cluster, err = cluster.New(cluster.Options{}); err != nil {
		return nil, err
	}
	if err := l.furnish(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) furnish() (err error) {
	if l.store, err = l.Etcd(1); err != nil {
		return err
	}
	etcd := l.store.Members[0]
	if err := l.made("etcd", etcd.Host); err != nil {
		return err
	}
	l.pids = append(l.pids, etcd.Pid)
	for i, h := range []**cluster.Host{&l.oslo, &l.kiel, &l.riga} {
		if *h, err = l.host([]string{"oslo", "kiel", "riga"}[i]); err != nil {
			return err
		}
	}
	return nil
}

// host joins one more host to the underlay.
func (l *lab) host(name string) (*cluster.Host, error) {
	h, err := l.Host(name, len(l.Hosts)+1)
	if err != nil {
		return nil, err
	}
	return h, l.made(name, h)
}

func (l *lab) hosts() []*cluster.Host { return []*cluster.Host{l.oslo, l.kiel, l.riga} }

func (l *lab) containers() []*container { return []*container{l.web, l.api, l.db, l.log} }

// made remembers a network namespace.
func (l *lab) made(owner string, in cluster.Place) error {
	return in.Do(func() error {
		inode, err := namespace("thread-self")
		l.namespaces[inode] = owner
		return err
	})
}

// close ends all processes, and lets go of the namespaces; the kernel removes what is
// in them.
func (l *lab) close() {
	if !l.closed {
		l.Cluster.Close()
	}
	l.closed = true
}

// start starts the agents of hosts, and waits until all are ready.
func (l *lab) start(hosts ...*cluster.Host) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, h := range hosts {
		all.Go(func() {
			a, err := h.Agent(cluster.OnEtcd(l.store)...)
			mu.Lock()
			defer mu.Unlock()
			if l.agents[h] = a; err == nil {
				l.pids = append(l.pids, a.Pid)
			}
			errs = append(errs, err)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// berth shows a command of a person, and runs it.
func (l *lab) berth(h *cluster.Host, words string) (string, error) {
	const prompt = 11 // columns
	lines := screen.Wrap("berth "+words, screen.Width-4-prompt-len(` \`))
	l.Quote(screen.Pad(h.Name, 8) + " $ " + strings.Join(lines, " \\\n"+strings.Repeat(" ", prompt+2)))
	return l.quietly(h, words)
}

// quietly runs a command of berth.
func (l *lab) quietly(h *cluster.Host, words string) (string, error) {
	return h.Berth(append(strings.Fields(words), cluster.OnEtcd(l.store)...)...)
}

// add makes a container and attaches it to the network, and says how long the runtime
// waited.
func (l *lab) add(h *cluster.Host, name string) (*container, time.Duration, error) {
	inner, err := h.Container(name)
	if err != nil {
		return nil, 0, err
	}
	c := &container{Container: inner, host: h}
	if err := l.made(name, c); err != nil {
		return nil, 0, err
	}
	if c.net, err = h.Network(l.conflist, os.Getenv("BERTH_BIN")); err != nil {
		return nil, 0, fmt.Errorf("read the conflist: %w", err)
	}
	start := time.Now()
	text, err := c.net.AddJSON(inner)
	took := time.Since(start)
	if err != nil {
		return nil, took, fmt.Errorf("ADD of %s: %w", name, err)
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return nil, took, fmt.Errorf("result of ADD: %w", err)
	}
	for _, ip := range result.IPs {
		c.prefixes = append(c.prefixes, ip.Address)
	}
	if len(c.prefixes) != 2 {
		return nil, took, fmt.Errorf("result of ADD: want an address of either family: %s", text)
	}
	return c, took, nil
}

// asks returns nil when a container gets an answer of another at all its addresses, and
// that one sees the first one's own.
func (c *container) asks(to *container) error {
	for i, p := range to.prefixes {
		at := netip.AddrPortFrom(p.Addr(), 80).String()
		stop, err := to.Serve(at)
		if err != nil {
			return err
		}
		got, err := c.Ask(at)
		stop()
		if want := to.ID + " " + c.prefixes[i].Addr().String(); err != nil || got != want {
			return fmt.Errorf("%s asks %s at %s: %q (%v), want %q", c.ID, to.ID, at, got, err, want)
		}
	}
	return nil
}

// flow sends a datagram each 5 ms to a container's first address.
func (c *container) flow(to *container) (*cluster.Flow, error) {
	return cluster.StartFlow(c, to, to.prefixes[0].Addr(), 5*time.Millisecond)
}

// until calls ok every few milliseconds, and says how long it took to return nil, or its
// last error after the time given.
func until(within time.Duration, ok func() error) (time.Duration, error) {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if err := ok(); err == nil || time.Since(start) > within {
			return time.Since(start), err
		}
	}
}

// ms is a time for people.
func ms(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
}
