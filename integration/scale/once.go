package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/kubernetes"
)

// onceResult is what became of hosts that joined at once.
type onceResult struct {
	hosts, asking int
	took          time.Duration // until the last one's container was reached by all that ask
	// Each from the start of the host's own agent.
	ready, attached, answered times
	agents, api, etcd         effort
	requests                  map[string]int // that the API server was asked, by verb and resource
}

// oncePatience is how long a host may take until something is wrong.
const oncePatience = 3 * time.Minute

// apiNumber is the number of the API server's host.
const apiNumber = 240

// measureAtOnce has some hosts with a container each, and then many that join at once,
// whose first containers those ask.
func measureAtOnce(p plan) (r *onceResult, err error) {
	progress("%d hosts join at once on Kubernetes' API", p.AtOnce)
	c := &crowd{}
	if c.Cluster, err = cluster.New(cluster.Options{}); err != nil {
		return nil, err
	}
	defer c.Close()
	store, err := c.Other("api", apiNumber)
	if err != nil {
		return nil, err
	}
	s, err := kubernetes.StartAPIServer(store, kubernetes.Options{Address: store.Addr4})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	flags, err := prepare(s)
	if err != nil {
		return nil, err
	}
	if err := c.settle(p.Sample+p.AtOnce, store); err != nil {
		return nil, err
	}
	create := append([]string{"network", "create", "--driver", "vxlan-overlay", network, "--subnet", subnet4}, flags...)
	if _, err := c.Hosts[0].Berth(create...); err != nil {
		return nil, err
	}
	for i, h := range c.Hosts[:p.Sample] {
		a, err := h.Agent(flags...)
		if err != nil {
			return nil, err
		}
		c.agents = append(c.agents, a)
		box, _, err := attach(h, fmt.Sprintf("sample%d", i))
		if err != nil {
			return nil, err
		}
		c.samples = append(c.samples, box)
	}
	return c.joinAtOnce(s, c.Hosts[p.Sample:], flags)
}

// prepare gives an API server what the store needs, and returns the flags of agents.
func prepare(s *kubernetes.APIServer) ([]string, error) {
	if err := s.Define(kubernetes.Group); err != nil {
		return nil, err
	}
	if _, err := s.Call(http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]string{"name": "berth-system"}}); err != nil {
		return nil, err
	}
	config, err := s.Kubeconfig("admin", s.Token)
	return cluster.OnKubernetes(config), err
}

func (c *crowd) joinAtOnce(s *kubernetes.APIServer, hosts []*cluster.Host, flags []string) (*onceResult, error) {
	r := &onceResult{hosts: len(hosts), asking: len(c.samples)}
	before, err := c.efforts(s)
	if err != nil {
		return nil, err
	}
	asked, err := s.Requests()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for i, h := range hosts {
		all.Go(func() {
			a, err := c.joinOne(h, i, flags, r, &mu)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("host %s: %w", h.Name, err))
				return
			}
			c.agents = append(c.agents, a)
		})
	}
	all.Wait()
	r.took = time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	after, err := c.efforts(s)
	if err != nil {
		return nil, err
	}
	r.agents, r.api, r.etcd = after[0].since(before[0]), after[1].since(before[1]), after[2].since(before[2])
	r.requests, err = s.Requests()
	for what, n := range asked {
		r.requests[what] -= n
	}
	return r, err
}

// efforts are those of all agents together, of the API server, and of its etcd.
func (c *crowd) efforts(s *kubernetes.APIServer) (all [3]effort, err error) {
	for i, pids := range [][]int{nil, {s.Process.Pid}, {s.Etcd.Pid}} {
		if i == 0 {
			for _, a := range c.agents {
				pids = append(pids, a.Pid)
			}
		}
		for _, pid := range pids {
			e, err := effortOf(pid)
			if err != nil {
				return all, err
			}
			all[i].user += e.user
			all[i].system += e.system
		}
	}
	return all, nil
}

// joinOne starts a host's agent, adds a container as soon as that can be, and waits until
// all that ask have an answer of it.
func (c *crowd) joinOne(h *cluster.Host, i int, flags []string, r *onceResult, mu *sync.Mutex) (*cluster.Agent, error) {
	ctx, cancel := context.WithTimeout(context.Background(), oncePatience)
	defer cancel()
	start := time.Now()
	a, err := h.LaunchAgent(flags...)
	if err != nil {
		return nil, err
	}
	for a.Probe("readyz") != nil { // which costs the agent something, too
		if time.Since(start) > oncePatience {
			return nil, fmt.Errorf("not ready after %v: %w\n%s", oncePatience, a.Probe("readyz"), a.Tail())
		}
		time.Sleep(100 * time.Millisecond)
	}
	ready := time.Since(start)
	_, addrs, err := attach(h, fmt.Sprint("first", i))
	if err != nil {
		return nil, err
	}
	attached := time.Since(start)
	w := &watch{start: start}
	var answered times
	if err := w.ask(ctx, c.samples, first4(addrs), &answered); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	r.ready.add(ready)
	r.attached.add(attached)
	r.answered.add(answered.quantile(1))
	return a, nil
}

func (r *onceResult) print(w io.Writer) {
	title(w, fmt.Sprintf("%d hosts join at once on Kubernetes' API", r.hosts), "p50 / p99 / most")
	row(w, "  ms from its agent's start: it is ready", r.ready.String())
	row(w, "  ... its first container is attached", r.attached.String())
	row(w, fmt.Sprintf("  ... %d other hosts have reached that", r.asking), r.answered.String())
	row(w, "  until all are, s", fmt.Sprintf("%.1f", r.took.Seconds()))
	for _, of := range []struct {
		name string
		effort
	}{{"all agents", r.agents}, {"the API server", r.api}, {"its etcd", r.etcd}} {
		row(w, "  CPU of "+of.name+", s: user + system", fmt.Sprintf("%.1f + %.1f", of.user.Seconds(), of.system.Seconds()))
	}
	sum := 0
	for _, what := range slices.Sorted(maps.Keys(r.requests)) {
		sum += r.requests[what]
		row(w, "    "+what, fmt.Sprintf("%d", r.requests[what]))
	}
	row(w, "  requests for each host", fmt.Sprintf("%.1f", float64(sum)/float64(r.hosts)))
}
