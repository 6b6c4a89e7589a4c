package nodes

import (
	"strings"
	"testing"
)

// TestModeChange: an upgrade takes pods off the bridge, and back, as they start anew. No
// datagram of those that run is lost, and old and new reach each other, by their addresses
// and by Services, which keep the client's.
func TestModeChange(t *testing.T) {
	c := newCluster(t, modes[0], Options{Proxy: "nftables", BridgeNetfilter: true})
	b := newBed(t, c)
	b.settled(t)
	old := b.b
	for _, mode := range []string{modes[1], modes[0]} {
		manifest, err := BerthManifest(mode)
		must(t, err)
		var late []*Pod
		under(t, "from "+old[0].Name+"'s mode to "+mode, old, func() {
			must(t, c.Berth(manifest))
			for _, n := range c.Nodes {
				must(t, n.writes(mode))
				p, err := c.Pod(n, mode+"-"+n.Name)
				must(t, err)
				late = append(late, p)
			}
			must(t, c.Start(late...))
		})
		for k, p := range late {
			links, err := p.Node.Output("ip", "-n", p.netns, "-oneline", "-4", "address", "show", "eth0")
			must(t, err)
			if strings.Contains(links, "/32 ") != (mode == "routed") {
				t.Errorf("pod %s is not attached as %s: %s", p.Name, mode, links)
			}
			s, err := c.Service(p.Name, "app", p.Name, nil)
			must(t, err)
			for i := range p.Addrs {
				for _, network := range []string{"tcp", "udp"} {
					must(t, Until(func() error {
						_, err := p.Ask(network, at(s.Addrs[i], 80))
						return err
					}))
					for j, o := range old {
						answers(t, o.Name+" to "+p.Name, o.Ask, network, at(p.Addrs[i], 80), p.Name, o.Addrs[i])
						answers(t, p.Name+" to "+o.Name, p.Ask, network, at(o.Addrs[i], 80), o.Name, p.Addrs[i])
						answers(t, o.Name+" to Service of "+p.Name, o.Ask, network, at(s.Addrs[i], 80), p.Name, o.Addrs[i])
						answers(t, late[k].Name+" to Service of "+b.b[j].Name, p.Ask, network, at(b.toB[j].Addrs[i], 80), b.b[j].Name, p.Addrs[i])
					}
				}
			}
		}
		old = late
	}
	b.leaveNothing(t)
}

// writes waits until the conflist of the node's agent is of a mode.
func (n *Node) writes(mode string) error {
	return Until(func() error {
		want := map[string]string{"routed": "grep -q", "bridge": "! grep -q"}[mode]
		_, err := n.In("sh", "-c", want+` '"mode": "routed"' /etc/cni/net.d/10-berth-pods.conflist`)
		return err
	})
}
