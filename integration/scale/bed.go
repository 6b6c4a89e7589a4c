package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/pkg/overlay"
)

// bed is one host with an agent, a container and a store.
type bed struct {
	*cluster.Cluster
	host    *cluster.Host
	etcd    *cluster.Etcd
	agent   *cluster.Agent
	monitor *monitor
	dual    bool
	own     []netip.Prefix // the host's blocks
	def     overlay.Network
	box     *sandbox.Container
	boxes   int
	filled  int // synthetic peers that stay
	next    int // number of the next synthetic peer that comes and goes
}

// newStore makes a cluster with a store that has the network.
func newStore(dual bool) (*cluster.Cluster, *cluster.Etcd, error) {
	c, err := cluster.New(cluster.Options{})
	if err != nil {
		return nil, nil, err
	}
	e, err := c.Etcd(1)
	if err == nil {
		args := append([]string{"network", "create", "--driver", "vxlan-overlay", network, "--subnet", subnet4}, cluster.OnEtcd(e)...)
		if dual {
			args = append(args, "--subnet", subnet6)
		}
		_, err = e.Members[0].Berth(args...)
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, e, nil
}

func newBed(dual bool) (b *bed, err error) {
	b = &bed{dual: dual, next: maxPeers - 1000}
	if b.Cluster, b.etcd, err = newStore(dual); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.host, err = b.Host("a", 1); err != nil {
		return b, err
	}
	if err = b.host.Script(fmt.Sprintf("ip route add %s via %s", farAway, b.etcd.Members[0].Addr4)); err != nil {
		return b, err
	}
	if err = b.start(); err != nil {
		return b, err
	}
	err = b.host.Do(func() error {
		l, err := overlay.ReadLocal(overlay.DefaultDataDir, network)
		if err == nil {
			b.own, b.def = l.Blocks, l.Network
		}
		return err
	})
	if err != nil {
		return b, err
	}
	if b.monitor, err = newMonitor(b.host, 1<<17); err != nil {
		return b, err
	}
	return b, b.addContainer()
}

func (b *bed) close() {
	if b.monitor != nil {
		b.monitor.close()
	}
	b.Close()
}

// start starts an agent with more flags, and waits until it is ready.
func (b *bed) start(flags ...string) (err error) {
	b.agent, err = b.host.Agent(append(cluster.OnEtcd(b.etcd), flags...)...)
	return err
}

// restart stops the agent, and starts another.
func (b *bed) restart(flags ...string) error {
	if err := b.agent.Stop(); err != nil {
		return err
	}
	return b.start(flags...)
}

// addContainer attaches a container with the plugin.
func (b *bed) addContainer() (err error) {
	b.boxes++
	b.box, _, err = attach(b.host, fmt.Sprintf("box%d", b.boxes))
	return err
}

// attach makes a container on a host and attaches it to the network.
func attach(h *cluster.Host, name string) (*sandbox.Container, []netip.Addr, error) {
	bin, err := sandbox.Binaries()
	if err != nil {
		return nil, nil, err
	}
	n, err := h.Network(fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "plugins": [{"type": "vxlan-overlay"}]}`, network), bin)
	if err != nil {
		return nil, nil, err
	}
	c, err := h.Container(name)
	if err != nil {
		return nil, nil, err
	}
	text, err := n.AddJSON(c)
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &result)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("attach container %s: %w", name, err), c.Remove())
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.Addr())
	}
	return c, addrs, nil
}

// filling is what many new peers at once cost.
type filling struct {
	peers int
	took  time.Duration // from before the first key is written until the last route is there
	cpu   time.Duration // of the agent
}

// fill puts peers into the store until there are so many.
func (b *bed) fill(peers int) (f filling, err error) {
	f.peers = peers - b.filled
	if f.peers == 0 {
		return f, nil
	}
	all := map[string]string{}
	left := map[netip.Prefix]bool{}
	for _, p := range synthetics(b.filled, f.peers+len(b.own), b.dual, b.own)[:f.peers] {
		for k, v := range p.all() {
			all[k] = v
		}
		for _, block := range p.blocks {
			left[block] = true
		}
	}
	before, err := cpu(b.agent.Pid)
	if err != nil {
		return f, err
	}
	b.monitor.drain()
	start := time.Now()
	put := make(chan error, 1)
	go func() { put <- b.etcd.Put(all) }()
	var last time.Time
	err = b.monitor.wait(time.Minute, func(e event) bool {
		if dst, ok := e.route(); ok && e.kind == newRoute {
			delete(left, dst)
			last = e.at
		}
		return len(left) == 0
	})
	if err := errors.Join(err, <-put); err != nil {
		return f, fmt.Errorf("%d of %d routes are missing: %w", len(left), f.peers, err)
	}
	f.took = last.Sub(start)
	b.filled = peers
	time.Sleep(time.Second)
	after, err := cpu(b.agent.Pid)
	f.cpu = after - before
	return f, err
}

// reboot takes away what a reboot does, while no agent runs.
func (b *bed) reboot() error {
	if err := b.box.Remove(); err != nil {
		return err
	}
	if err := b.host.Script(fmt.Sprintf(`
		ip link del %s
		ip link del %s
		ip route flush proto 98
		ip -6 route flush proto 98
		nft delete table inet berth`, b.def.Device(), b.def.Bridge())); err != nil {
		return err
	}
	return b.host.Do(func() error {
		files, err := filepath.Glob("/run/berth/*")
		for _, f := range files {
			err = errors.Join(err, os.RemoveAll(f))
		}
		return err
	})
}
