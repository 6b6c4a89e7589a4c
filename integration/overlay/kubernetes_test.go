package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/kubernetes"
	model "github.com/berth-cni/berth/pkg/overlay"
	store "github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// apiServer is Kubernetes' API as a store.
type apiServer struct {
	*kubernetes.APIServer
	config string // kubeconfig of the administrator
}

// apiNumber is the number of the API server's host.
const apiNumber = 240

// startAPI starts an API server on a host of its own, which has what the store needs.
func startAPI(t testing.TB, c *cluster.Cluster) *apiServer {
	t.Helper()
	h, err := c.Other("api", apiNumber)
	must(t, err)
	s, err := kubernetes.StartAPIServer(h, kubernetes.Options{Address: h.Addr4})
	must(t, err)
	t.Cleanup(s.Close)
	must(t, s.Define(kubernetes.Group))
	_, err = s.Call(http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]string{"name": store.DefaultNamespace}})
	must(t, err)
	config, err := s.Kubeconfig("admin", s.Token)
	must(t, err)
	return &apiServer{s, config}
}

// requests is how many of each kind the API server has answered since it started, those
// of agents: by verb and resource. A watch counts when it begins.
func (s *apiServer) requests(t testing.TB) map[string]int {
	t.Helper()
	text, err := s.Call(http.MethodGet, "/metrics", nil)
	must(t, err)
	all := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `group="berth.dev"`) && !strings.Contains(line, `resource="leases"`) {
			continue
		}
		labels, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		n, err := strconv.ParseFloat(value, 64)
		must(t, err)
		all[label(labels, "verb")+" "+label(labels, "resource")] += int(n)
	}
	return all
}

func label(labels, name string) string {
	_, rest, _ := strings.Cut(labels, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// TestAPIServerAway has the API server away while agents are restarted, and a host loses
// all but its disk. Containers are added all the while, and nothing is lost; when it is
// back, the hosts follow it. BERTH_TEST_OUTAGE says for how long it is away.
func TestAPIServerAway(t *testing.T) {
	t.Parallel()
	f := newFaults(t, 3, options{api: true})
	h := f.Hosts[2]
	disk, err := f.Host("spare", 70)
	must(t, err)
	known := func() error { // what the store says is written down now and then
		for _, other := range f.Hosts[:2] {
			p, err := other.Peer("blue", false)
			if err != nil {
				return err
			}
			if err := h.Script("grep -q " + p.Blocks[0].String() + " /var/lib/berth/state.json"); err != nil {
				return err
			}
		}
		return nil
	}
	f.eventually(patience, known)
	f.under("the API server killed and started", func() {
		f.api.Kill()
		time.Sleep(outage(t))
		f.works("away", f.Hosts[0], f.places[1])
		must(t, f.api.Start())
	})
	f.api.Kill()
	r := f.ring(f.places[0], f.places[1])
	for _, host := range f.Hosts[:2] {
		f.agents[host].Kill()
		f.works("nobody-"+host.Name, host, f.places[2])
		must(t, f.agents[host].Launch())
		f.eventually(patience, func() error { return f.agents[host].Probe("readyz") })
		f.works("restarted-"+host.Name, host, f.places[2])
	}
	copyDisk(t, h, disk)
	f.agents[h].Kill()
	delete(f.agents, h)
	f.Remove(h)
	disk.Name = h.Name
	must(t, disk.Renumber(h.Number))
	f.agents[disk], err = disk.LaunchAgent(f.flags(disk)...)
	must(t, err)
	f.eventually(faultPatience, func() error { return f.agents[disk].Probe("readyz") })
	f.settled()
	c := f.container(disk, "new")
	f.reaches(c, f.places[0], f.places[1])
	time.Sleep(outage(t))
	r.whole("agents and a host came while the API server was away")
	f.places[2] = c
	must(t, f.api.Start())
	f.under("the API server is back", func() {})
}

// TestHundredOnAPIServer has a hundred hosts register and claim a block at the same time,
// from a process of their own, beside hosts with traffic; these program them all, and no
// block is two hosts'. Then the API server goes, and comes back: what all of them ask it
// then is a few requests each.
func TestHundredOnAPIServer(t *testing.T) {
	if os.Getenv(joinAPIEnv) != "" {
		joinAPI(t)
		return
	}
	f := newFaults(t, 3, options{api: true})
	x, err := f.Host("x", 60)
	must(t, err)
	r := f.ring(f.places...)
	start := time.Now()
	here, err := os.Getwd() // where TestMain looks for what is built
	must(t, err)
	p, err := x.Start("/usr/bin/env", "-C", here, joinAPIEnv+"="+f.api.config, os.Args[0], "-test.run=^TestHundredOnAPIServer$")
	must(t, err)
	peers := func() {
		t.Helper()
		for _, a := range f.agents {
			f.eventually(2*faultPatience, func() error {
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
	}
	peers()
	t.Logf("%d hosts came: all known to all after %v; requests %v", joiners, time.Since(start).Round(time.Millisecond), f.api.requests(t))
	f.api.Kill()
	time.Sleep(outage(t))
	must(t, f.api.Start())
	f.eventually(faultPatience, func() error {
		_, err := f.Hosts[0].Berth(append([]string{"network", "create", "--driver", "vxlan-overlay", "after", "--subnet", "10.100.0.0/16"}, f.where()...)...)
		return err
	})
	for _, h := range f.members() {
		f.eventually(2*faultPatience, f.network(h, "after").Status)
	}
	time.Sleep(store.DefaultTTL / 3) // when each has renewed its lease once
	sum := 0
	asked := f.api.requests(t)
	for _, n := range asked {
		sum += n
	}
	if all := (joiners + 3) * requestsBack; sum > all || sum < joiners {
		t.Errorf("%d hosts asked an API server that was back %d times, want %d at most: %v", joiners+3, sum, all, asked)
	}
	t.Logf("the API server is back, and was asked %d times: %v", sum, asked)
	p.Kill()
	r.whole(fmt.Sprint(joiners, " hosts joined at once, and died"))
	f.reaches(f.places...)
}

// requestsBack is how much a host may ask an API server that is back, in half a minute: a
// list and a watch of each of four resources, the leases, and its own objects, which it looks
// at when a watch has found the server again.
const requestsBack = 64

const joinAPIEnv = "BERTH_TEST_JOIN_API"

// joinAPI is the hundred hosts.
func joinAPI(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range joiners {
		all.Go(func() {
			s, err := store.Open(store.Options{Options: client.Options{Kubeconfig: os.Getenv(joinAPIEnv)}})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := joinOne(ctx, s, i); err != nil {
				t.Error(err)
			}
			for ctx.Err() == nil { // alive until it is killed, as an agent that follows the store
				_ = s.Watch(ctx, func(model.Update) {})
				time.Sleep(time.Second)
			}
		})
	}
	all.Wait()
}

// joinOne registers a host, and claims it a block.
func joinOne(ctx context.Context, s model.Store, i int) error {
	node := model.Node{Name: fmt.Sprintf("join%d", i), Token: fmt.Sprintf("token%d", i), Address: netip.AddrFrom4([4]byte{192, 168, 77, byte(100 + i)}), MTU: 1500}
	for {
		err := s.Register(ctx, node, "boot", false, func(error) {})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("register %s: %w", node.Name, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for b := i; b < 256; b += 7 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 42, byte(b), 0}), 24)
		err := s.Claim(ctx, model.Block{Network: "blue", Prefix: prefix, Node: node.Name, Token: node.Token})
		if err == nil || !errors.Is(err, model.ErrTaken) {
			return err
		}
	}
	return fmt.Errorf("%s: no block is left", node.Name)
}
