package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// hostsResult is what was measured with many real agents.
type hostsResult struct {
	agents int
	begun  time.Duration // until all agents, started one after the other, knew all
	cpu    time.Duration // of all agents until then
	rest   float64       // of a core, all agents together, while nothing changes
	pss    int64         // bytes of all agents together
	etcd   load          // while nothing changes, and
	over   time.Duration // for how long
	joins  []*joined
}

// crowd is many hosts with real agents.
type crowd struct {
	*cluster.Cluster
	etcd     *cluster.Etcd
	agents   []*cluster.Agent
	monitors []*monitor
	samples  []*sandbox.Container
}

// leastMemory is what must be free for 100 agents and their hosts, in bytes.
const leastMemory = 6 << 30

func measureHosts(p plan) (r *hostsResult, err error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil || uint64(info.Freeram)*uint64(info.Unit) < leastMemory {
		return nil, fmt.Errorf("%d hosts need %d GiB of free memory", p.Hosts, leastMemory>>30)
	}
	progress("%d hosts", p.Hosts+p.New)
	c := &crowd{}
	if c.Cluster, c.etcd, err = newStore(p.Dual); err != nil {
		return nil, err
	}
	defer c.Close()
	defer func() {
		for _, m := range c.monitors {
			m.close()
		}
	}()
	if err := c.settle(p.Hosts+p.New, c.etcd.Members[0].Host); err != nil {
		return nil, err
	}
	r = &hostsResult{agents: p.Hosts}
	progress("%d agents", p.Hosts)
	if err := c.begin(p.Hosts, r); err != nil {
		return nil, err
	}
	for i := range p.Sample {
		box, _, err := attach(c.Hosts[i*p.Hosts/p.Sample], fmt.Sprintf("sample%d", i))
		if err != nil {
			return nil, err
		}
		c.samples = append(c.samples, box)
	}
	progress("%d agents at rest", p.Hosts)
	if err := c.rest(p, r); err != nil {
		return nil, err
	}
	for i := range p.New {
		h := c.Hosts[p.Hosts+i]
		progress("host %s joins", h.Name)
		j, err := c.join(h, r.rest)
		if err != nil {
			return nil, fmt.Errorf("host %s joins: %w", h.Name, err)
		}
		r.joins = append(r.joins, j)
		time.Sleep(2 * time.Second)
	}
	return r, nil
}

// settle makes the hosts. They know each other's MACs: on one machine they share the
// table of neighbours, whose limit for entries that are looked for (gc_thresh3, 1,024)
// is all hosts' together.
func (c *crowd) settle(count int, store *cluster.Host) error {
	members := []*cluster.Host{store}
	for i := range count {
		h, err := c.Host(fmt.Sprintf("h%03d", i+1), i+1)
		if err != nil {
			return err
		}
		members = append(members, h)
	}
	var neighbours strings.Builder
	for _, h := range members {
		mac := fmt.Sprintf("02:00:00:00:00:%02x", h.Number)
		fmt.Fprintf(&neighbours, "neigh replace %s lladdr %s dev eth0 nud permanent\n", h.Addr4, mac)
		if err := h.Script("ip link set eth0 address " + mac); err != nil {
			return err
		}
	}
	for _, h := range members {
		err := h.Do(func() error {
			ip := exec.Command("ip", "-batch", "-")
			ip.Stdin = strings.NewReader(neighbours.String())
			out, err := ip.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("ip -batch: %w: %s", err, out)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// begin starts agents one after the other, and waits until all know all.
func (c *crowd) begin(count int, r *hostsResult) error {
	start := time.Now()
	for _, h := range c.Hosts[:count] {
		a, err := h.Agent(cluster.OnEtcd(c.etcd)...)
		if err != nil {
			return err
		}
		c.agents = append(c.agents, a)
		m, err := newMonitor(h, 1<<12)
		if err != nil {
			return err
		}
		c.monitors = append(c.monitors, m)
	}
	for i, a := range c.agents {
		for {
			samples, err := a.Metrics()
			if err != nil {
				return err
			}
			if n := int(samples[fmt.Sprintf("berth_network_peers{network=%q}", network)]); n == count-1 {
				break
			} else if time.Since(start) > 2*time.Minute {
				return fmt.Errorf("host %d knows %d peers", i, n)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	r.begun = time.Since(start)
	var err error
	r.cpu, err = c.cpu()
	return err
}

// cpu is what all agents have used.
func (c *crowd) cpu() (sum time.Duration, err error) {
	for _, a := range c.agents {
		d, failed := cpu(a.Pid)
		sum, err = sum+d, errors.Join(err, failed)
	}
	return sum, err
}

func (c *crowd) rest(p plan, r *hostsResult) error {
	time.Sleep(p.Settle)
	before, err := loadOf(c.etcd)
	if err != nil {
		return err
	}
	used, err := c.cpu()
	if err != nil {
		return err
	}
	start := time.Now()
	time.Sleep(p.Rest)
	after, err := c.cpu()
	if err != nil {
		return err
	}
	r.over = time.Since(start)
	r.rest = float64(after-used) / float64(r.over)
	now, err := loadOf(c.etcd)
	if err != nil {
		return err
	}
	r.etcd = now.since(before)
	for _, a := range c.agents {
		m, err := memoryOf(a.Pid)
		if err != nil {
			return err
		}
		r.pss += m.pss
	}
	return nil
}

func (r *hostsResult) print(w io.Writer) {
	title(w, fmt.Sprintf("%d real agents", r.agents), "all", "each")
	n := float64(r.agents)
	row(w, "  started one after the other, s; CPU s", fmt.Sprintf("%.1f; %.1f", r.begun.Seconds(), r.cpu.Seconds()),
		fmt.Sprintf("%.3f; %.3f", r.begun.Seconds()/n, r.cpu.Seconds()/n))
	row(w, "  at rest, probing: CPU, % of a core", fmt.Sprintf("%.1f", r.rest*100), fmt.Sprintf("%.2f", r.rest*100/n))
	row(w, "  memory, MB: PSS", mb(r.pss), mb(r.pss/int64(r.agents)))
	row(w, "  etcd: requests a second", fmt.Sprintf("%.1f", r.etcd.total()/r.over.Seconds()), fmt.Sprintf("%.2f", r.etcd.total()/r.over.Seconds()/n))
	row(w, "  etcd: CPU, % of a core", fmt.Sprintf("%.1f", 100*r.etcd.cpu/r.over.Seconds()))
	fmt.Fprintf(w, "  etcd in 30 s: %s\n", r.etcd.each(r.over.Seconds()/30))

	heads := []string{}
	for _, j := range r.joins {
		heads = append(heads, fmt.Sprintf("host %d", j.number))
	}
	title(w, "A new host, ms from its agent's start: first/last", heads...)
	for _, of := range []struct {
		name string
		of   func(*joined) string
	}{
		{"it is ready", func(j *joined) string { return ms(j.ready) }},
		{"the others have a route to it", func(j *joined) string { return span(j.routed) }},
		{"the others accept its packets", func(j *joined) string { return span(j.accepted) }},
		{"containers have its answer to a ping", func(j *joined) string { return span(j.answered) }},
		{"it has a container", func(j *joined) string { return ms(j.attached) }},
		{"containers have the answer of that one", func(j *joined) string { return span(j.reached) }},
		{"CPU of each other", func(j *joined) string { return fmt.Sprintf("%.2f", float64(j.cpu)/1e6/float64(len(j.routed))) }},
		{"requests to etcd, keepalives apart (number)", func(j *joined) string { return fmt.Sprintf("%.0f", j.etcd.total()-j.etcd.beats()) }},
		{"messages from etcd (number)", func(j *joined) string { return fmt.Sprintf("%.0f", j.etcd.sent) }},
	} {
		cells := []string{}
		for _, j := range r.joins {
			cells = append(cells, of.of(j))
		}
		row(w, "  "+of.name, cells...)
	}
	title(w, "Targets", "measured", "wanted", "")
	worst := times{}
	for _, j := range r.joins {
		worst = append(worst, j.reached.quantile(1))
	}
	verdict := "reached"
	if worst.quantile(1) > time.Second {
		verdict = "MISSED"
	}
	row(w, "  a new host's container answers all", ms(worst.quantile(1))+" ms", "< 1000 ms", verdict)
}

// span is the shortest and the longest.
func span(t times) string { return ms(t.quantile(0)) + " / " + ms(t.quantile(1)) }

// first4 is the first IPv4 address of some.
func first4(all []netip.Addr) netip.Addr {
	for _, a := range all {
		if a.Is4() {
			return a
		}
	}
	return netip.Addr{}
}
