package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay"
	store "github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// BenchmarkMany is a real agent beside thousands of nodes that are in the API only. An
// operation is one node's new address, from the request until the agent's kernel has it. It
// also reports the agent's start, until it has all of them in the kernel, and its memory.
func BenchmarkMany(b *testing.B) {
	for _, n := range []int{0, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { many(b, n) })
	}
}

func many(b *testing.B, n int) {
	c, err := cluster.New(cluster.Options{})
	must(b, err)
	b.Cleanup(c.Close)
	control, err := c.Host("control", 1)
	must(b, err)
	host, err := c.Host("oslo", 2)
	must(b, err)
	s, err := StartAPIServer(control, Options{Address: control.Addr4})
	must(b, err)
	b.Cleanup(s.Close)
	must(b, s.Define(Group))
	must(b, s.Apply("/api/v1/namespaces/berth-system", "apiVersion: v1\nkind: Namespace\nmetadata: {name: berth-system}\n"))
	config, err := s.Kubeconfig("admin", s.Token)
	must(b, err)
	_, err = control.Berth(append([]string{"network", "create", "--driver", "vxlan-overlay", "--subnet", "10.64.0.0/10", "--no-names", "blue"}, cluster.OnKubernetes(config)...)...)
	must(b, err)
	fill(b, s, Group, n)
	before := cpu(b, s.Process.Pid)
	agent, err := host.LaunchAgent(append(cluster.OnKubernetes(config), "--no-probe")...)
	must(b, err)
	start := time.Now()
	must(b, cluster.Until(overlaytest.Patience, func() error {
		out, err := host.Output("ip", "route", "show", "table", "all")
		if got := strings.Count(out, " via 10."); err == nil && got < n {
			err = fmt.Errorf("%d routes", got)
		}
		return err
	}))
	started, spent, server := time.Since(start), cpu(b, agent.Pid), cpu(b, s.Process.Pid)-before
	must(b, agent.Ready())
	monitor, err := host.Start("ip", "-ts", "monitor", "neigh")
	must(b, err)
	time.Sleep(5 * time.Second)
	var took []float64
	i := 0
	for b.Loop() {
		i++
		if n == 0 {
			continue
		}
		address := fmt.Sprintf("198.19.%d.%d", i>>8, i&255)
		sent := time.Now()
		_, err := s.Call("PATCH", "/apis/"+Group+"/v1/berthnodes/"+synthetic(i%n), map[string]any{"spec": map[string]string{"address": address}})
		must(b, err)
		must(b, cluster.Until(overlaytest.Patience, func() error {
			at, ok := seen(monitor.Log(), address)
			if !ok {
				return fmt.Errorf("address %s of a node is not in the kernel", address)
			}
			took = append(took, float64(at.Sub(sent).Microseconds())/1000)
			return nil
		}))
		time.Sleep(150 * time.Millisecond) // the next one comes after a rest
	}
	if len(took) > 0 {
		slices.Sort(took)
		b.ReportMetric(took[len(took)/2], "change-ms")
	}
	b.ReportMetric(float64(started.Milliseconds()), "start-ms")
	b.ReportMetric(float64(spent.Milliseconds()), "start-cpu-ms")
	b.ReportMetric(float64(server.Milliseconds()), "start-server-cpu-ms")
	b.ReportMetric(float64(rss(b, agent.Pid))/1e6, "rss-MB")
}

// seen is when a monitor has seen a word.
func seen(log, word string) (time.Time, bool) {
	for line := range strings.SplitSeq(log, "\n") {
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(line, "["), "]")
		if strings.Contains(rest, word+" ") {
			at, err := time.ParseInLocation("2006-01-02T15:04:05.999999", stamp, time.Local)
			return at, err == nil
		}
	}
	return time.Time{}, false
}

func rss(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(data)
	if m == nil {
		t.Fatalf("no VmRSS in %s", bytes.TrimSpace(data))
	}
	kb, err := strconv.Atoi(string(m[1]))
	must(t, err)
	return kb << 10
}

// cpu is what a process has spent so far (proc(5): in ticks of 10 ms).
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := bytes.Cut(data, []byte(") "))
	fields := strings.Fields(string(rest))
	user, err := strconv.Atoi(fields[11])
	must(t, err)
	system, err := strconv.Atoi(fields[12])
	must(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

func synthetic(i int) string { return fmt.Sprintf("peer-%05d", i) }

// fill puts nodes with a block of blue each into the API.
func fill(t testing.TB, s *APIServer, group string, n int) {
	t.Helper()
	var work sync.WaitGroup
	next := make(chan int)
	for range 16 {
		work.Go(func() {
			for i := range next {
				name, token := synthetic(i), fmt.Sprintf("%026d", i)
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + byte(i>>8), byte(i), 0}), 24)
				now := time.Now().UTC().Format(time.RFC3339)
				_, err := s.Call("POST", client.Resource{Group: group, Version: "v1", Plural: "berthnodes"}.Path(), map[string]any{
					"apiVersion": group + "/v1", "kind": "BerthNode", "metadata": map[string]any{"name": name, "ownerReferences": []any{map[string]string{"apiVersion": "v1", "kind": "Node", "name": name, "uid": token}}},
					"spec":   map[string]any{"token": token, "address": fmt.Sprintf("198.18.%d.%d", i>>8, i&255), "mtu": 1500},
					"status": map[string]any{"since": now, "seen": now, "agent": map[string]string{"instance": "01234567-89ab-cdef-0123-456789abcdef", "since": now}}})
				if err == nil {
					_, err = s.Call("POST", client.Resource{Group: group, Version: "v1", Plural: "berthblocks"}.Path(), map[string]any{
						"apiVersion": group + "/v1", "kind": "BerthBlock", "metadata": map[string]any{"name": strings.Replace(p.String(), "/", "-", 1)},
						"spec": map[string]any{"network": "blue", "node": name, "prefix": p.String(), "token": token}, "status": map[string]bool{"used": true}})
				}
				// As an agent leaves them.
				bare := map[string]any{"managedFields": []any{map[string]any{}}}
				if err == nil {
					_, err = s.Call("PATCH", client.Resource{Group: group, Version: "v1", Plural: "berthnodes"}.Path(name), map[string]any{"metadata": bare,
						"status": map[string]any{"conditions": []any{map[string]string{"type": "Ready", "status": "True", "reason": "ContainersCanBeAttached", "message": "", "lastTransitionTime": now}}}})
				}
				if err == nil {
					_, err = s.Call("PATCH", client.Resource{Group: group, Version: "v1", Plural: "berthblocks"}.Path(strings.Replace(p.String(), "/", "-", 1)), map[string]any{"metadata": bare})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	work.Wait()
}

// BenchmarkSync is a Watch until it has told everything, of 5,000 nodes with a block each.
func BenchmarkSync(b *testing.B) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 6943})
	must(b, err)
	b.Cleanup(s.Close)
	must(b, s.Define(Group))
	must(b, s.Apply("/api/v1/namespaces/berth-system", "apiVersion: v1\nkind: Namespace\nmetadata: {name: berth-system}\n"))
	_, err = openAs(b, s, "admin", s.Token).CreateNetwork(b.Context(), overlaytest.Net("blue", "10.64.0.0/10"))
	must(b, err)
	fill(b, s, Group, 5000)
	config, err := s.Kubeconfig("bench", s.Token)
	must(b, err)
	before, server := cpu(b, os.Getpid()), cpu(b, s.Process.Pid)
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		k, err := store.Open(store.Options{Options: client.Options{Kubeconfig: config}})
		must(b, err)
		_ = k.Watch(ctx, func(u overlay.Update) {
			if u.Full && len(u.Nodes) != 5000 {
				b.Errorf("%d nodes", len(u.Nodes))
			}
			cancel()
		})
		must(b, k.Close())
	}
	b.ReportMetric(float64((cpu(b, os.Getpid())-before).Milliseconds())/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64((cpu(b, s.Process.Pid)-server).Milliseconds())/float64(b.N), "server-cpu-ms/op")
}
