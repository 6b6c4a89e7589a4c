// Package overlay drives `berth agent`, `berth` and the plugin vxlan-overlay on several
// hosts of one machine (package cluster), with a real etcd, and compares each host's
// kernel with what is wanted after every event.
package overlay

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// TestMain wants the binaries: a test that did not run them has shown nothing.
func TestMain(m *testing.M) {
	bin, err := sandbox.Binaries()
	for _, name := range []string{"berth", "vxlan-overlay"} {
		if err == nil {
			_, err = os.Stat(filepath.Join(bin, name))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration/overlay:", err)
		os.Exit(1)
	}
	// Those that are marked as parallel wait for leases to run out, and for stores to come
	// back: more of them run at a time than there are cores.
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue {
		_ = p.Value.Set(strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	}
	os.Exit(m.Run())
}

// bed is a cluster with a store, and the network "blue" on all hosts, for one test.
type bed struct {
	*cluster.Cluster
	t         testing.TB
	bin       string
	store     *cluster.Etcd
	peers     string     // the file that is the store, where there is no etcd
	api       *apiServer // the store, where there is no etcd
	agents    map[*cluster.Host]*cluster.Agent
	user      []string
	underlay6 bool
	firewall  string
	networks  []string
	routed    map[*cluster.Host]bool // whose containers are attached without a bridge
}

// options are those of a bed.
type options struct {
	members   int                // of etcd; 0 is 1
	secure    *cluster.Authority // etcd speaks TLS
	user      []string           // flags of agents and of berth: etcd's user
	underlay6 bool               // VXLAN over IPv6
	firewall  string             // the backend; none: the host's choice
	mtu       int                // of the underlay
	create    []string           // flags of blue; none: both families
	api       bool               // Kubernetes' API in etcd's place
}

func newBed(t testing.TB, hosts int, o options) *bed {
	t.Helper()
	c, err := cluster.New(cluster.Options{MTU: o.mtu})
	must(t, err)
	t.Cleanup(c.Close)
	b := &bed{Cluster: c, t: t, agents: map[*cluster.Host]*cluster.Agent{}, routed: map[*cluster.Host]bool{}, user: o.user, underlay6: o.underlay6, firewall: o.firewall}
	b.bin, err = sandbox.Binaries()
	must(t, err)
	if o.api {
		b.api = startAPI(t, c)
	} else if o.secure != nil {
		b.store, err = c.SecureEtcd(max(o.members, 1), o.secure)
	} else {
		b.store, err = c.Etcd(max(o.members, 1))
	}
	must(t, err)
	t.Cleanup(b.logs)
	for i := range hosts {
		_, err := c.Host(string(rune('a'+i)), i+1)
		must(t, err)
	}
	if o.create == nil {
		o.create = []string{"--subnet", "10.42.0.0/16", "--subnet", "fd00:42::/48"}
	}
	b.create("blue", o.create...)
	b.start(c.Hosts...)
	b.settled()
	return b
}

// logs shows what the agents of a test that failed have written.
func (b *bed) logs() {
	if !b.t.Failed() {
		return
	}
	for h, a := range b.agents {
		b.t.Logf("agent of %s:\n%s", h.Name, a.Log())
	}
}

// berth runs a command that uses the store, on the first host.
func (b *bed) berth(args ...string) string {
	b.t.Helper()
	out, err := b.Hosts[0].Berth(append(args, b.where()...)...)
	must(b.t, err)
	return out
}

// where are the flags that say where the store is.
func (b *bed) where() []string {
	if b.peers != "" {
		return cluster.OnFile(b.peers)
	}
	if b.api != nil {
		return cluster.OnKubernetes(b.api.config)
	}
	return append(cluster.OnEtcd(b.store), b.user...)
}

// create makes a network.
func (b *bed) create(name string, flags ...string) {
	b.t.Helper()
	b.berth(append([]string{"network", "create", "--driver", "vxlan-overlay", name}, flags...)...)
	b.networks = append(b.networks, name)
}

// start starts agents on hosts, at the same time.
func (b *bed) start(hosts ...*cluster.Host) {
	b.t.Helper()
	errs := make([]error, len(hosts))
	agents := make([]*cluster.Agent, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() { agents[i], errs[i] = h.Agent(b.flags(h)...) })
	}
	all.Wait()
	must(b.t, errors.Join(errs...))
	for i, h := range hosts {
		b.agents[h] = agents[i]
	}
}

func (b *bed) flags(h *cluster.Host) []string {
	flags := b.where()
	if b.firewall != "" {
		flags = append(flags, "--firewall-backend", b.firewall)
	}
	if b.underlay6 {
		flags = append(flags, "--underlay", h.Addr6.String())
	}
	return flags
}

// members are the hosts that have an agent, running or not.
func (b *bed) members() []*cluster.Host {
	return slices.DeleteFunc(slices.Clone(b.Hosts), func(h *cluster.Host) bool { return b.agents[h] == nil })
}

// patience is how long the hosts may take to get where they are wanted: a resync, and
// the pause between two attempts at a store that was away.
const patience = 30 * time.Second

// settled waits until every host has what is wanted of every network, and no more. It
// returns how long that took.
func (b *bed) settled() time.Duration {
	b.t.Helper()
	return b.settledWithin(patience)
}

func (b *bed) settledWithin(patience time.Duration) time.Duration {
	b.t.Helper()
	start := time.Now()
	for {
		diff := b.differences()
		if diff == "" {
			return time.Since(start)
		}
		if time.Since(start) > patience {
			b.t.Fatalf("after %v the hosts are not what is wanted:\n%s", patience, diff)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// differences are what a host has and shall not, and the other way round.
func (b *bed) differences() string {
	var all []string
	for _, network := range b.networks {
		var peers []cluster.Peer
		owner := map[netip.Prefix]string{}
		for _, h := range b.members() {
			p, err := h.Peer(network, b.underlay6)
			if err != nil {
				return err.Error()
			}
			for _, block := range p.Blocks {
				if owner[block] != "" {
					b.t.Fatalf("block %s is both %s's and %s's", block, owner[block], h.Name)
				}
				owner[block] = h.Name
			}
			peers = append(peers, p)
		}
		for i, h := range b.members() {
			n := b.definition(h, network)
			got, err := h.Overlay(n)
			if err != nil {
				return err.Error()
			}
			for _, line := range cluster.Wanted(n, peers[i], peers).Diff(got) {
				all = append(all, h.Name+" "+network+": "+line)
			}
		}
	}
	return strings.Join(all, "\n")
}

// definition is a network as a host knows it.
func (b *bed) definition(h *cluster.Host, network string) (n model.Network) {
	b.t.Helper()
	must(b.t, h.Do(func() error {
		l, err := model.ReadLocal(model.DefaultDataDir, network)
		if err == nil {
			n = l.Network
		}
		return err
	}))
	return n
}

// network is a conflist on a host, as `berth network conflist` prints it.
func (b *bed) network(h *cluster.Host, name string) *sandbox.Network {
	b.t.Helper()
	mode := "bridge"
	if b.routed[h] {
		mode = "routed"
	}
	list := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "plugins": [
		{"type": "vxlan-overlay", "mode": %q, "firewallBackend": %q, "capabilities": {"portMappings": true, "ips": true, "mac": true}}]}`, name, mode, cmp.Or(b.firewall, "auto"))
	n, err := h.Network(list, b.bin)
	must(b.t, err)
	return n
}

// place is a container on a host, with its addresses on its first network.
type place struct {
	*sandbox.Container
	host  *cluster.Host
	addrs []netip.Addr
}

// container makes a container and attaches it to networks; to blue when none is named.
func (b *bed) container(h *cluster.Host, name string, networks ...string) *place {
	b.t.Helper()
	if networks == nil {
		networks = []string{"blue"}
	}
	c, err := h.Container(name)
	must(b.t, err)
	p := &place{Container: c, host: h}
	for i, network := range networks {
		addrs := b.attach(p, network, sandbox.IfName(fmt.Sprint("eth", i)))
		if i == 0 {
			p.addrs = addrs
		}
	}
	return p
}

// attach attaches a container and returns its addresses.
func (b *bed) attach(p *place, network string, opts ...sandbox.Option) (addrs []netip.Addr) {
	b.t.Helper()
	text, err := b.network(p.host, network).AddJSON(p.Container, opts...)
	must(b.t, err)
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	must(b.t, json.Unmarshal([]byte(text), &result))
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.Addr())
	}
	return addrs
}

// reach returns nil when a container reaches another's addresses, and that one sees
// the first one's own.
func reach(from, to *place) error {
	var errs []error
	for i, a := range to.addrs {
		at := netip.AddrPortFrom(a, 8000).String()
		stop, err := to.Serve(at)
		if err != nil {
			return err
		}
		got, err := from.Ask(at)
		stop()
		if want := to.ID + " " + from.addrs[i].String(); err != nil || got != want {
			errs = append(errs, fmt.Errorf("%s asks %s at %s: answer %q (%v), want %q", from.ID, to.ID, a, got, err, want))
		}
	}
	return errors.Join(errs...)
}

// reaches fails the test unless all of the containers reach each other.
func (b *bed) reaches(all ...*place) {
	b.t.Helper()
	for _, from := range all {
		for _, to := range all {
			if err := reach(from, to); err != nil {
				b.t.Error(err)
			}
		}
	}
}

// eventually waits until ok returns nil.
func (b *bed) eventually(within time.Duration, ok func() error) time.Duration {
	b.t.Helper()
	start := time.Now()
	for {
		err := ok()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			b.t.Fatalf("not within %v: %v", within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
