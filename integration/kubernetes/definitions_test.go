package kubernetes

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// definitions: the API server refuses what a host would refuse to read, and takes the rest.
func definitions(t *testing.T, api *APIServer, c *client.Client) {
	longest := strings.Repeat("n", 63)
	networks := []struct {
		what, name string
		spec       map[string]any
		want       string // of the refusal; empty: it is taken
	}{
		{"least", "a", map[string]any{"subnets": []string{"10.1.0.0/16"}}, ""},
		{"most", longest, map[string]any{"id": "x", "subnets": []string{"10.2.0.0/16", "fd00:2::/48"}, "nodePrefix": []int{26, 80}, "vni": 16777215, "port": 8472, "mtu": 1280,
			"podCIDRs": true, "internal": true, "isolate": true, "noicc": true, "names": true, "labels": map[string]string{"a": "b"}}, ""},
		{"encrypted", "b", map[string]any{"subnets": []string{"fd00:3::/48", "10.3.0.0/16"}, "encrypted": true, "listenPort": 51821}, ""},
		{"whole subnet", "d", map[string]any{"subnets": []string{"10.4.0.0/30"}, "nodePrefix": []int{30}}, ""},
		{"a dot", "a.b", map[string]any{"subnets": []string{"10.9.0.0/16"}}, "63 at most"},
		{"too long", longest + "n", map[string]any{"subnets": []string{"10.9.0.0/16"}}, "63 at most"},
		{"no subnet", "n", map[string]any{"subnets": []string{}}, "subnets"},
		{"three", "n", map[string]any{"subnets": []string{"10.9.0.0/16", "fd00:9::/48", "10.10.0.0/16"}}, "subnets"},
		{"one family twice", "n", map[string]any{"subnets": []string{"10.9.0.0/16", "10.10.0.0/16"}}, "one of IPv4 and one of IPv6"},
		{"host bits", "n", map[string]any{"subnets": []string{"10.9.0.1/16"}}, "without host bits"},
		{"an address", "n", map[string]any{"subnets": []string{"10.9.0.0"}}, "want a prefix such as"},
		{"not canonical", "n", map[string]any{"subnets": []string{"FD00:9::/48"}}, "want a prefix such as"},
		{"wide", "n", map[string]any{"subnets": []string{"10.0.0.0/7"}}, "8 or more"},
		{"multicast", "n", map[string]any{"subnets": []string{"224.0.0.0/16"}}, "unicast"},
		{"loopback", "n", map[string]any{"subnets": []string{"127.0.0.0/16"}}, "unicast"},
		{"link-local", "n", map[string]any{"subnets": []string{"fe80::/64"}}, "unicast"},
		{"lengths", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "nodePrefix": []int{24, 64}}, "a length for each"},
		{"shorter", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "nodePrefix": []int{15}}, "at least the subnet's own length"},
		{"longer", "n", map[string]any{"subnets": []string{"10.9.0.0/16", "fd00:9::/48"}, "nodePrefix": []int{24, 127}}, "nodePrefix"},
		{"VNI 0", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "vni": 0}, "vni"},
		{"VNI", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "vni": 1 << 24}, "vni"},
		{"port", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "port": 70000}, "port"},
		{"MTU", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "mtu": 500}, "mtu"},
		{"MTU of IPv6", "n", map[string]any{"subnets": []string{"fd00:9::/48"}, "mtu": 1279}, "at least 1280 bytes"},
		{"port of VXLAN", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "encrypted": true, "port": 4789}, "none of VXLAN"},
		{"port of WireGuard", "n", map[string]any{"subnets": []string{"10.9.0.0/16"}, "listenPort": 51820}, "for encrypted networks"},
	}
	ctx := t.Context()
	object := func(kind, name string, spec map[string]any) map[string]any {
		return map[string]any{"apiVersion": Group + "/v1", "kind": kind, "metadata": map[string]string{"name": name}, "spec": spec}
	}
	taken := 0
	for _, n := range networks {
		err := c.Create(ctx, networkObjects.Path(), object("BerthNetwork", n.name, n.spec), nil)
		switch {
		case n.want == "" && err != nil:
			t.Errorf("network, %s: %v", n.what, err)
		case n.want == "":
			taken++
		case !client.IsInvalid(err) || !strings.Contains(err.Error(), n.want):
			t.Errorf("network, %s: %v, want a refusal with %q", n.what, err, n.want)
		}
	}
	if err := c.Patch(ctx, networkObjects.Path("a"), client.Merge, map[string]any{"spec": map[string]any{"vni": 7}}, nil); !client.IsInvalid(err) || !strings.Contains(err.Error(), "does not change once it is made") {
		t.Errorf("a network that changes: %v", err)
	}
	key := strings.Repeat("A", 43) + "="
	for _, n := range []struct {
		what, kind, name string
		spec             map[string]any
		want             string
	}{
		{"node", "BerthNode", "host1.example", map[string]any{"token": "t", "address": "192.0.2.1", "mtu": 1500, "publicKey": key}, ""},
		{"its address of IPv6", "BerthNode", "host2", map[string]any{"token": "t", "address": "fd00::2", "mtu": 626}, ""},
		{"no address", "BerthNode", "n", map[string]any{"token": "t", "address": "here", "mtu": 1500}, "unicast address"},
		{"address of loopback", "BerthNode", "n", map[string]any{"token": "t", "address": "127.0.0.1", "mtu": 1500}, "unicast address"},
		{"address of the link", "BerthNode", "n", map[string]any{"token": "t", "address": "fe80::1", "mtu": 1500}, "unicast address"},
		{"MTU", "BerthNode", "n", map[string]any{"token": "t", "address": "192.0.2.1", "mtu": 600}, "mtu"},
		{"key", "BerthNode", "n", map[string]any{"token": "t", "address": "192.0.2.1", "mtu": 1500, "publicKey": "short"}, "publicKey"},
		{"no token", "BerthNode", "n", map[string]any{"token": "", "address": "192.0.2.1", "mtu": 1500}, "token"},
		{"block", "BerthBlock", "10.1.3.0-24", map[string]any{"network": "a", "node": "host2", "prefix": "10.1.3.0/24", "token": "t"}, ""},
		{"block of IPv6", "BerthBlock", "fd00-2-0-7---64", map[string]any{"network": "a", "node": "host2", "prefix": "fd00:2:0:7::/64", "token": "t"}, ""},
		{"another name", "BerthBlock", "10.1.4.0-24", map[string]any{"network": "a", "node": "host2", "prefix": "10.1.5.0/24", "token": "t"}, "want that of the prefix"},
		{"block with host bits", "BerthBlock", "10.1.4.1-24", map[string]any{"network": "a", "node": "host2", "prefix": "10.1.4.1/24", "token": "t"}, "without host bits"},
		{"order", "BerthRemoval", "n", map[string]any{"network": "a", "id": "x", "at": "2026-01-01T00:00:00Z"}, ""},
		{"order about nothing", "BerthRemoval", "m", map[string]any{"id": "x", "at": "2026-01-01T00:00:00Z"}, "want one of them"},
		{"order about two", "BerthRemoval", "m", map[string]any{"network": "a", "node": "b", "id": "x", "at": "2026-01-01T00:00:00Z"}, "want one of them"},
	} {
		of := client.Resource{Group: Group, Version: "v1", Plural: strings.ToLower(n.kind) + "s"}
		err := c.Create(ctx, of.Path(), object(n.kind, n.name, n.spec), nil)
		if n.want == "" && err != nil || n.want != "" && (!client.IsInvalid(err) || !strings.Contains(err.Error(), n.want)) {
			t.Errorf("%s: %v, want %q", n.what, err, n.want)
		}
	}
	// What it took, hosts read, but for an order that somebody named otherwise.
	s := openAs(t, api, "definitions", api.Token)
	state, err := s.State(ctx)
	must(t, err)
	if len(state.Networks) != taken || len(state.Nodes) != 2 || len(state.Blocks) != 2 || len(state.Bad) != 1 {
		t.Errorf("%d networks, %d nodes, %d blocks, bad %v", len(state.Networks), len(state.Nodes), len(state.Blocks), state.Bad)
	}
	a, b := state.Networks["a"], state.Networks["b"]
	if a.ID == "" || a.VNI <= overlay.MaxVNI/2 || a.Port != overlay.DefaultPort || a.NodePrefix[0] != 24 || b.ListenPort != 51821 || b.Port != 0 {
		t.Errorf("what a network leaves out: %+v, %+v", a, b)
	}
}
