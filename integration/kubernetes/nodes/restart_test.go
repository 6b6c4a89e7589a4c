package nodes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// under has 1,000 datagrams a second go from each of the pods to the next, of both
// families, while something happens. None is lost.
func under(t *testing.T, what string, pods []*Pod, happen func()) {
	t.Helper()
	var flows []*cluster.Flow
	for i, from := range pods {
		to := pods[(i+1)%len(pods)]
		for _, a := range to.Addrs {
			f, err := cluster.StartFlow(from, to, a, time.Millisecond)
			must(t, err)
			flows = append(flows, f)
		}
	}
	time.Sleep(200 * time.Millisecond)
	happen()
	time.Sleep(200 * time.Millisecond)
	sent := 0
	for _, f := range flows {
		r := f.Stop()
		sent += r.Sent
		if r.Lost() != 0 || r.Err != nil {
			t.Errorf("%s: %v", what, r)
		}
	}
	t.Logf("%s: %d datagrams sent", what, sent)
}

// rollout has all agents replaced, as an upgrade does, and waits for the new ones.
func (c *Cluster) rollout(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{{"rollout", "restart", "daemonset/berth"}, {"rollout", "status", "daemonset/berth", "--timeout=180s"}} {
		_, err := c.Kubectl(append([]string{"--namespace", BerthNamespace}, args...)...)
		must(t, err)
	}
}

// TestRestart: what becomes of pods when agents are replaced, kubelet and the runtime are
// started anew, and a node loses its power; and that they leave nothing when they go.
func TestRestart(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			restart(t, newCluster(t, mode, Options{Proxy: "nftables", BridgeNetfilter: true}))
		})
	}
}

func restart(t *testing.T, c *Cluster) {
	b := newBed(t, c)
	n := c.Nodes[1]
	under(t, "agents replaced", b.b, func() {
		c.rollout(t)
		late, err := c.Pod(n, "late")
		must(t, err)
		must(t, c.Start(late))
		answers(t, "a pod that came after the new agents", late.Ask, "tcp", at(b.b[0].Addrs[0], 80), b.b[0].Name, late.Addrs[0])
	})
	under(t, "kubelet started anew", b.b, func() {
		n.Process("kubelet").Kill()
		must(t, n.Kubelet())
	})
	under(t, "containerd started anew", b.b, func() {
		n.Process("containerd").Kill()
		must(t, n.Containerd())
	})
	must(t, n.Reboot())
	must(t, c.Ready())
	must(t, c.Look(b.a[1], b.b[1]))
	for _, network := range []string{"tcp", "udp"} {
		for i, family := range []int{4, 6} {
			must(t, Until(func() error {
				_, err := b.b[0].Ask(network, at(b.b[1].Addrs[i], 80))
				return err
			}))
			answers(t, "after a power cut", b.b[1].Ask, network, at(b.b[0].Addrs[i], 80), b.b[0].Name, b.b[1].Addrs[i])
			answers(t, "after a power cut, by the node's port", b.AskOutside, network, at(n.Addr(family), hostPort), b.a[1].Name, b.address(family))
		}
	}
	b.leaveNothing(t)
}

// leaveNothing deletes all pods, of which nothing stays on the nodes.
func (b *bed) leaveNothing(t *testing.T) {
	t.Helper()
	_, err := b.Kubectl("delete", "pods", "--all", "--timeout=120s")
	must(t, err)
	_, err = b.Kubectl("--namespace=kube-system", "delete", "deployment", "coredns", "--cascade=foreground", "--timeout=120s")
	must(t, err)
	for _, n := range b.Nodes {
		must(t, Until(func() error {
			ps, err := n.Berth("ps", "--format", "{{.Container}}")
			if err != nil {
				return err
			}
			links, err := n.Output("ip", "-oneline", "link", "show", "type", "veth")
			if err != nil {
				return err
			}
			left := slices.DeleteFunc(strings.Split(strings.TrimSpace(links), "\n"), func(line string) bool { return strings.Contains(line, ": eth0@") })
			if len(left) > 0 || strings.TrimSpace(ps) != "" {
				return fmt.Errorf("%s has %q and %q of pods that are gone", n.Name, ps, left)
			}
			return nil
		}))
	}
}
