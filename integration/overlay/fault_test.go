package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/etcd"
)

// faults are what becomes of a bed's store or hosts, with a container on each host and
// 1,000 datagrams a second from each to the next.
type faults struct {
	*bed
	places []*place
	made   int           // networks, each to show that the store is followed
	out    *cluster.Host // it is not to follow; nil: none
}

func newFaults(t *testing.T, hosts int, o options) *faults {
	f := &faults{bed: newBed(t, hosts, o)}
	f.places = f.bed.places("blue")
	f.reaches(f.places...)
	return f
}

// under has traffic flow while something happens. Nothing is lost, and after it the hosts
// follow the store: a network that is made then is on all of them.
func (f *faults) under(what string, happen func()) {
	f.t.Helper()
	r := f.ring(f.places...)
	time.Sleep(200 * time.Millisecond)
	happen()
	took := f.follows()
	r.whole(what)
	f.t.Logf("%s: the hosts followed the store %v later", what, took.Round(time.Millisecond))
}

// follows waits until a new network is on all hosts.
func (f *faults) follows() time.Duration {
	f.t.Helper()
	start := time.Now()
	name := fmt.Sprint("after", f.made)
	subnet := fmt.Sprintf("10.%d.0.0/16", 100+f.made)
	f.made++
	f.eventually(faultPatience, func() error {
		_, err := f.Hosts[0].Berth(append([]string{"network", "create", "--driver", "vxlan-overlay", name, "--subnet", subnet}, f.where()...)...)
		if err != nil && strings.Contains(err.Error(), "exists") { // a try whose answer got lost
			return nil
		}
		return err
	})
	f.networks = append(f.networks, name)
	for _, h := range f.members() { // one that was away waits until its former life has ended
		if h != f.out {
			f.eventually(faultPatience, f.network(h, name).Status)
		}
	}
	if f.out == nil {
		f.settledWithin(faultPatience)
	}
	for h, a := range f.agents {
		if h != f.out {
			f.eventually(faultPatience, func() error { return a.Probe("readyz") })
		}
	}
	return time.Since(start)
}

// faultPatience is how long a client of etcd's may take to leave a member that hangs: its
// keepalives take 13 s.
const faultPatience = 40 * time.Second

// works adds a container, which reaches another and is reached, and removes it.
func (f *faults) works(what string, h *cluster.Host, far *place) {
	f.t.Helper()
	c := f.container(h, "late-"+what)
	f.eventually(patience, func() error { return errors.Join(reach(c, far), reach(far, c)) })
	must(f.t, f.network(h, "blue").Del(c.Container))
}

// TestQuorum: of three members one goes, the leader goes, two go, the leader hangs.
func TestQuorum(t *testing.T) {
	t.Parallel()
	f := newFaults(t, 3, options{members: 3})
	leader := func() *cluster.Member {
		t.Helper()
		out, err := f.store.Ctl("endpoint", "status", "-w", "json")
		must(t, err)
		var all []struct {
			Endpoint string
			Status   struct {
				Header struct {
					Member uint64 `json:"member_id"`
				}
				Leader uint64
			}
		}
		must(t, json.Unmarshal([]byte(out), &all))
		for _, m := range all {
			for _, member := range f.store.Members {
				if m.Status.Header.Member == m.Status.Leader && strings.Contains(m.Endpoint, member.Addr4.String()) {
					return member
				}
			}
		}
		t.Fatalf("no leader: %s", out)
		return nil
	}
	gone := leader()
	f.under("the leader killed", func() { gone.Kill() })
	must(t, gone.Start())
	var two []*cluster.Member
	f.under("two of three killed for 4 s, no quorum", func() {
		two = f.store.Members[1:]
		for _, m := range two {
			m.Kill()
		}
		f.works("no-quorum", f.Hosts[0], f.places[1])
		for _, a := range f.agents {
			must(t, a.Probe("readyz"))
		}
		time.Sleep(4 * time.Second)
		for _, m := range two {
			must(t, m.Start())
		}
	})
	hung := leader()
	f.under("the leader hung, and goes on after", func() {
		hung.Pause()
		f.works("hung", f.Hosts[1], f.places[2])
		time.Sleep(4 * time.Second)
	})
	hung.Resume()
	f.under("the leader that hung is back", func() { must(t, hung.Healthy()) })
}

// TestClocks has clocks jump by an hour: those of an agent, of the store, of all. What it
// does not show is a program that asks the kernel by a system call.
func TestClocks(t *testing.T) {
	t.Parallel()
	if err := cluster.ClocksShift(); err != nil {
		t.Skip(err)
	}
	f := newFaults(t, 3, options{})
	agent, store := f.agents[f.Hosts[0]], f.store.Members[0]
	all := func(by time.Duration) {
		t.Helper()
		for _, a := range f.agents {
			must(t, a.ShiftClock(by))
		}
		must(t, store.ShiftClock(by))
	}
	before := f.identities()
	for _, c := range []struct {
		what string
		jump func()
	}{
		{"an agent's clock jumps an hour ahead", func() { must(t, agent.ShiftClock(time.Hour)) }},
		{"and two back", func() { must(t, agent.ShiftClock(-time.Hour)) }},
		{"the store's clock jumps an hour ahead", func() { must(t, store.ShiftClock(time.Hour)) }},
		{"and two back, and it is restarted", func() {
			must(t, store.ShiftClock(-time.Hour))
			_ = store.Stop()
			must(t, store.Start())
			must(t, store.ShiftClock(-time.Hour))
		}},
		{"all clocks jump two hours ahead", func() { all(time.Hour) }},
		{"all are right again", func() { all(0) }},
	} {
		f.under(c.what, c.jump)
		f.works(fmt.Sprint("clock", f.made), f.Hosts[0], f.places[1])
	}
	now := f.identities()
	for k, v := range before {
		if now[k] != v {
			t.Errorf("%s was %q and is %q", k, v, now[k])
		}
	}
	out := f.berth("node", "ls")
	for _, h := range f.Hosts {
		if !strings.Contains(out, h.Name) || strings.Contains(out, "away") {
			t.Errorf("node ls:\n%s", out)
		}
	}
}

// TestPowerCut has a host lose all but its disk while the store is away. It comes back with
// its addresses and blocks, adds containers, and reaches and is reached, as it knew its
// peers; the others notice nothing.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	f := newFaults(t, 3, options{})
	h := f.Hosts[2]
	self, err := h.Peer("blue", false)
	must(t, err)
	var others []string
	for _, other := range f.Hosts[:2] {
		p, err := other.Peer("blue", false)
		must(t, err)
		others = append(others, p.Blocks[0].String())
	}
	disk, err := f.Host("spare", 70)
	must(t, err)
	r := f.ring(f.places[0], f.places[1])
	f.store.Stop()
	f.eventually(patience, func() error { // what the store says is written down now and then
		return h.Script(fmt.Sprintf("grep -q %s /var/lib/berth/state.json\ngrep -q %s /var/lib/berth/state.json", others[0], others[1]))
	})
	copyDisk(t, h, disk)
	f.agents[h].Kill()
	delete(f.agents, h)
	f.Remove(h)
	disk.Name = h.Name
	must(t, disk.Renumber(h.Number))
	f.agents[disk], err = disk.LaunchAgent(f.flags(disk)...)
	must(t, err)
	took := f.eventually(faultPatience, func() error { return f.agents[disk].Probe("readyz") })
	t.Logf("ready %v after the agent's start", took.Round(time.Millisecond))
	back, err := disk.Peer("blue", false)
	must(t, err)
	if fmt.Sprint(back.Blocks) != fmt.Sprint(self.Blocks) || back.Address != self.Address {
		t.Errorf("the host was %v and is %v", self, back)
	}
	f.settled()
	c := f.container(disk, "new")
	f.reaches(c, f.places[0], f.places[1])
	r.whole("a host lost its power while the store was away")
	must(t, f.store.Start())
	f.places[2] = c
	f.under("the store is back", func() {})
}

// joiners is how many hosts come at once.
const joiners = 100

// TestHundredJoin has a hundred hosts register and claim a block at the same time, from a
// process of their own, beside hosts with traffic; these program them all, and no block is
// two hosts'.
func TestHundredJoin(t *testing.T) {
	if os.Getenv(joinEnv) != "" {
		join(t)
		return
	}
	f := newFaults(t, 3, options{})
	x, err := f.Host("x", 60)
	must(t, err)
	r := f.ring(f.places...)
	start := time.Now()
	here, err := os.Getwd() // where TestMain looks for what is built
	must(t, err)
	p, err := x.Start("/usr/bin/env", "-C", here, joinEnv+"="+f.store.Endpoints(), os.Args[0], "-test.run=^TestHundredJoin$")
	must(t, err)
	for _, a := range f.agents {
		f.eventually(faultPatience, func() error {
			m, err := a.Metrics()
			if err != nil {
				return err
			}
			if n := m[`berth_network_peers{network="blue"}`]; n != joiners+2 {
				return fmt.Errorf("%v peers of %d\n%s", n, joiners+2, p.Log())
			}
			return nil
		})
	}
	t.Logf("%d hosts came: all known to all after %v", joiners, time.Since(start).Round(time.Millisecond))
	owners := map[string]bool{}
	for k := range f.identities() {
		if strings.Contains(k, "/blocks/blue/10.42.") {
			owners[k] = true
		}
	}
	if len(owners) != joiners+3 {
		t.Errorf("%d blocks, want %d", len(owners), joiners+3)
	}
	p.Kill()
	r.whole(fmt.Sprint(joiners, " hosts joined at once, and died"))
	f.reaches(f.places...)
}

const joinEnv = "BERTH_TEST_JOIN"

// join is the hundred hosts.
func join(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range joiners {
		all.Go(func() {
			s, err := etcd.Open(etcd.Options{Endpoints: strings.Split(os.Getenv(joinEnv), ",")})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			node := model.Node{Name: fmt.Sprintf("join%d", i), Token: fmt.Sprintf("token%d", i), Address: netip.AddrFrom4([4]byte{192, 168, 77, byte(100 + i)}), MTU: 1500}
			for {
				err = s.Register(ctx, node, "boot", false, func(err error) { t.Error(err) })
				if err == nil || ctx.Err() != nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			for b := i; err == nil && b < 256; b += 7 {
				prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 42, byte(b), 0}), 24)
				err = s.Claim(ctx, model.Block{Network: "blue", Prefix: prefix, Node: node.Name, Token: node.Token})
				if err == nil {
					break
				}
				if errors.Is(err, model.ErrTaken) {
					err = nil
				}
			}
			if err != nil {
				t.Errorf("%s: %v", node.Name, err)
			}
			<-ctx.Done() // alive until it is killed
		})
	}
	all.Wait()
}
