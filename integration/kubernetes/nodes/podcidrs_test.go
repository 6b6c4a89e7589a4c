package nodes

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
)

// TestPodCIDRs: where the controller manager gives each Node its share of the pods'
// addresses, a network made with --pod-cidrs has pods of these, in both families, and they reach each
// other and their Services. Kube-proxy, which knows pods by their interfaces, keeps the
// client's address.
func TestPodCIDRs(t *testing.T) {
	c := newCluster(t, "routed", Options{Proxy: "nftables", VethsAreLocal: true, ControllerFlags: []string{
		"--allocate-node-cidrs=true", "--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64"}}, "--pod-cidrs")
	b := newBed(t, c)
	b.settled(t)
	for k, n := range c.Nodes {
		given := c.given(t, n)
		if len(given) != 2 {
			t.Fatalf("the controller manager gives %s %v, want a prefix of each family", n.Name, given)
		}
		for _, p := range []*Pod{b.a[k], b.b[k]} {
			for i, a := range p.Addrs {
				if !given[i].Contains(a) {
					t.Errorf("pod %s of %s has %s, which is not of %s", p.Name, n.Name, a, given[i])
				}
			}
		}
		if blocks := c.blocks(t, n); !slices.Equal(blocks, given) {
			t.Errorf("%s has the blocks %v, want %v", n.Name, blocks, given)
		}
	}
	t.Run("pods", func(t *testing.T) { b.each(t, b.pods) })
	t.Run("services", func(t *testing.T) { b.each(t, b.services) })
}

// given are the podCIDRs of a Node, IPv4's first.
func (c *Cluster) given(t *testing.T, n *Node) []netip.Prefix {
	t.Helper()
	answer, err := c.API.Call("GET", "/api/v1/nodes/"+n.Name, nil)
	must(t, err)
	var node struct {
		Spec struct{ PodCIDRs []netip.Prefix }
	}
	must(t, json.Unmarshal(answer, &node))
	return node.Spec.PodCIDRs
}

// blocks are a node's, IPv4's first.
func (c *Cluster) blocks(t *testing.T, n *Node) (all []netip.Prefix) {
	t.Helper()
	answer, err := c.API.Call("GET", "/apis/berth.dev/v1/berthblocks", nil)
	must(t, err)
	var list struct {
		Items []struct {
			Spec struct {
				Prefix netip.Prefix
				Node   string
			}
		}
	}
	must(t, json.Unmarshal(answer, &list))
	for _, o := range list.Items {
		if o.Spec.Node == n.Name {
			all = append(all, o.Spec.Prefix)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return all
}
