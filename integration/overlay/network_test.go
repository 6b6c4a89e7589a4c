package overlay

import (
	"fmt"
	"sync"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestSecondBlock adds more containers than one block has addresses for.
func TestSecondBlock(t *testing.T) {
	b := newBed(t, 2, options{create: []string{"--subnet", "10.42.0.0/16", "--node-prefix", "29"}})
	far := b.container(b.Hosts[1], "far")
	var all []*place
	for i := range 12 { // a /29 has 5 addresses for containers
		b.eventually(patience, func() error { return b.network(b.Hosts[0], "blue").Status() })
		c := &place{host: b.Hosts[0]}
		var err error
		c.Container, err = c.host.Container(fmt.Sprint("c", i))
		must(t, err)
		c.addrs = b.attach(c, "blue")
		all = append(all, c)
	}
	b.settled()
	p, err := b.Hosts[0].Peer("blue", false)
	must(t, err)
	if len(p.Blocks) < 3 {
		t.Errorf("blocks of 5 addresses for 12 containers: %v", p.Blocks)
	}
	for _, c := range all {
		b.reaches(c, far)
	}
	b.reaches(all[0], all[11])
}

// TestNetworks has two networks over the same hosts, each with its own VNI; containers
// are on one or on both.
func TestNetworks(t *testing.T) {
	b := newBed(t, 2, options{})
	b.create("green", "--subnet", "10.43.0.0/16", "--subnet", "fd00:43::/48", "--udp-port", "8472")
	b.create("red", "--subnet", "10.44.0.0/16", "--internal")
	for _, h := range b.Hosts {
		for _, name := range b.networks {
			n := b.network(h, name)
			b.eventually(patience, n.Status)
		}
	}
	b.settled()
	for _, name := range b.networks {
		b.reaches(b.container(b.Hosts[0], "one-"+name, name), b.container(b.Hosts[1], "two-"+name, name))
	}
	b.berth("network", "rm", "--force", "red")
	b.networks = b.networks[:2]
	b.eventually(patience, func() error {
		if b.network(b.Hosts[0], "red").Status() == nil {
			return fmt.Errorf("a network that was removed can be added to")
		}
		return nil
	})
	b.settled()
}

// TestIsolate has two isolated networks on two hosts: no traffic between them, on one host
// or across.
func TestIsolate(t *testing.T) {
	b := newBed(t, 2, options{create: []string{"--subnet", "10.42.0.0/16", "--isolate"}})
	b.create("green", "--subnet", "10.43.0.0/16", "--isolate")
	b.settledAll("green")
	var blue, green []*place
	for _, h := range b.Hosts {
		blue, green = append(blue, b.container(h, "blue-"+h.Name)), append(green, b.container(h, "green-"+h.Name, "green"))
	}
	b.reaches(blue...)
	b.reaches(green...)
	var all sync.WaitGroup // each waits for an answer that does not come
	for _, from := range blue {
		for _, to := range green {
			for _, p := range [][2]*place{{from, to}, {to, from}} {
				all.Go(func() {
					if _, err := p[0].Output("ping", "-c2", "-W1", p[1].addrs[0].String()); err == nil {
						t.Errorf("%s reaches %s, on another isolated network", p[0].ID, p[1].ID)
					}
				})
			}
		}
	}
	all.Wait()
}

// settledAll waits until a network can be used on every host.
func (b *bed) settledAll(name string) {
	b.t.Helper()
	for _, h := range b.members() {
		b.eventually(patience, b.network(h, name).Status)
	}
	b.settled()
}

// TestStatus asks before the host knows the network, and after.
func TestStatus(t *testing.T) {
	b := newBed(t, 1, options{})
	n := b.network(b.Hosts[0], "yellow")
	const notAvailable = 50 // SPEC 1.1.0, STATUS
	if err := n.Status(); sandbox.Code(err) != notAvailable {
		t.Errorf("a network that nobody made: %v", err)
	}
	c, err := b.Hosts[0].Container("c")
	must(t, err)
	if _, err := n.Add(c); err == nil {
		t.Error("ADD to a network that nobody made")
	}
	b.create("yellow", "--subnet", "10.45.0.0/16")
	b.settledAll("yellow")
	_, err = n.Add(c)
	must(t, err)
	must(t, n.Check(c))
	must(t, n.GC())
	if err := n.Check(c); err == nil {
		t.Error("CHECK passes after GC")
	}
}
