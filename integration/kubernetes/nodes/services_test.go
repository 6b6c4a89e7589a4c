package nodes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// bed are pods and Services on every node: a of each has a port on its node, b has none.
type bed struct {
	*Cluster
	a, b                []*Pod
	toA, toB            []*Service
	nodePort, local     []*Service // of a
	all, sticky         *Service
	proxy               string
	netfilter, bridging bool // frames on a bridge pass the packet filter; pods are on a bridge
}

const hostPort = 8080

func newBed(t *testing.T, c *Cluster) *bed {
	t.Helper()
	b := &bed{Cluster: c}
	ports := []Port{{hostPort, "", 80, "TCP"}, {hostPort, "", 80, "UDP"},
		{hostPort + 1, "127.0.0.1", 80, "TCP"}, {hostPort + 1, "127.0.0.1", 80, "UDP"}, {hostPort + 1, "::1", 80, "TCP"}, {hostPort + 1, "::1", 80, "UDP"}}
	service := func(name, label, value string, more object) *Service {
		s, err := c.Service(name, label, value, more)
		must(t, err)
		return s
	}
	for _, n := range c.Nodes {
		a, err := c.Pod(n, "a-"+n.Name, ports...)
		must(t, err)
		other, err := c.Pod(n, "b-"+n.Name)
		must(t, err)
		b.a, b.b = append(b.a, a), append(b.b, other)
		b.toA = append(b.toA, service(a.Name, "app", a.Name, nil))
		b.toB = append(b.toB, service(other.Name, "app", other.Name, nil))
		b.nodePort = append(b.nodePort, service("np-"+n.Name, "app", a.Name, object{"type": "NodePort"}))
		b.local = append(b.local, service("lo-"+n.Name, "app", a.Name, object{"type": "NodePort", "externalTrafficPolicy": "Local"}))
	}
	b.all = service("all", "all", "web", nil)
	b.sticky = service("sticky", "all", "web", object{"sessionAffinity": "ClientIP"})
	must(t, c.Start(slices.Concat(b.a, b.b)...))
	return b
}

// asker asks over a network at an address, from somewhere.
type asker func(network, address string) (string, error)

// answers fails the test unless who answers is name, and has seen the peer; empty: any.
func answers(t *testing.T, what string, from asker, network, address, name string, peer fmt.Stringer) {
	t.Helper()
	want := name
	if peer != nil {
		want += " " + peer.String()
	}
	var got string
	var err error
	for range 3 { // what is new takes a proxy a moment
		got, err = from(network, address)
		if err == nil && (got == want || peer == nil && strings.HasPrefix(got, name+" ")) {
			return
		}
	}
	t.Errorf("%s: %s %s was answered %q (%v), want %q", what, network, address, got, err, want)
}

func at(a netip.Addr, port int) string { return netip.AddrPortFrom(a, uint16(port)).String() }

// port is a Service's on the nodes.
func (s *Service) port(network string) int {
	if network == "udp" {
		return s.UDPPort
	}
	return s.Port
}

// settled waits until kube-proxy on every node knows who is behind each Service.
func (b *bed) settled(t *testing.T) {
	t.Helper()
	for _, n := range b.Nodes {
		for _, s := range slices.Concat(b.toA, b.toB, b.nodePort, b.local, []*Service{b.all, b.sticky}) {
			for _, a := range s.Addrs {
				for _, network := range []string{"tcp", "udp"} {
					must(t, Until(func() error {
						_, err := n.Ask(network, at(a, 80))
						return err
					}))
				}
			}
		}
	}
}

// each runs checks for both protocols and both families.
func (b *bed) each(t *testing.T, check func(t *testing.T, network string, i, family int)) {
	for i, family := range []int{4, 6} {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(fmt.Sprint(network, family), func(t *testing.T) { check(t, network, i, family) })
		}
	}
}

// pods: each reaches each by its own address, and the nodes reach all.
func (b *bed) pods(t *testing.T, network string, i, family int) {
	for _, from := range b.a {
		for _, to := range b.b {
			answers(t, from.Name+" to "+to.Name, from.Ask, network, at(to.Addrs[i], 80), to.Name, from.Addrs[i])
		}
	}
	for _, n := range b.Nodes {
		for _, to := range b.b {
			answers(t, n.Name+" to "+to.Name, n.Ask, network, at(to.Addrs[i], 80), to.Name, nil)
		}
	}
	answers(t, "to the outside, masqueraded", b.a[0].Ask, network, at(b.address(family), 80), "outside", b.Nodes[0].Addr(family))
}

func (b *bed) address(family int) netip.Addr {
	if family == 6 {
		return b.Outside.Addr6
	}
	return b.Outside.Addr4
}

// services: a client's address is kept, on the same node and across; a pod reaches itself
// by its own Service, whether it has a port on its node or not.
func (b *bed) services(t *testing.T, network string, i, _ int) {
	for k, from := range b.a {
		for j, to := range b.b {
			var peer fmt.Stringer = from.Addrs[i]
			if k == j && b.bridging && !b.netfilter {
				peer = nil // the answer would be bridged past what has translated the address
			}
			answers(t, from.Name+" to Service of "+to.Name, from.Ask, network, at(b.toB[j].Addrs[i], 80), to.Name, peer)
		}
		own, other := at(b.toA[k].Addrs[i], 80), at(b.toB[k].Addrs[i], 80)
		answers(t, from.Name+" to its own Service", from.Ask, network, own, from.Name, nil)
		answers(t, b.b[k].Name+", which publishes nothing, to its own Service", b.b[k].Ask, network, other, b.b[k].Name, nil)
		for j, n := range b.Nodes {
			answers(t, n.Name+" to Service of "+b.b[k].Name, n.Ask, network, at(b.toB[k].Addrs[i], 80), b.b[k].Name, nil)
			answers(t, from.Name+" to the node's port "+b.Nodes[j].Name, from.Ask, network, at(n.Addr(familyOf(i)), b.nodePort[k].port(network)), from.Name, nil)
		}
	}
	for _, p := range b.b {
		names := map[string]bool{}
		for range 6 {
			got, err := p.Ask(network, at(b.sticky.Addrs[i], 80))
			name, _, _ := strings.Cut(got, " ")
			if err != nil {
				t.Errorf("%s to the Service with affinity: %v", p.Name, err)
			}
			names[name] = true
		}
		if len(names) != 1 {
			t.Errorf("affinity: %s was answered by %v", p.Name, names)
		}
	}
}

func familyOf(i int) int { return []int{4, 6}[i] }

// nodePorts: from outside and from the nodes; a local one keeps the client's address.
func (b *bed) nodePorts(t *testing.T, network string, i, family int) {
	for j, n := range b.Nodes {
		for k, to := range b.a {
			port := at(n.Addr(family), b.nodePort[k].port(network))
			answers(t, "outside to "+to.Name+" at "+n.Name, b.AskOutside, network, port, to.Name, nil)
			answers(t, "the node to "+to.Name+" at itself", n.Ask, network, port, to.Name, nil)
			local := at(n.Addr(family), b.local[k].port(network))
			if j == k {
				answers(t, "outside to "+to.Name+" at "+n.Name+", local", b.AskOutside, network, local, to.Name, b.address(family))
			} else if got, err := b.AskOutside(network, local); err == nil {
				t.Errorf("%s has no pod of %s, and its local port is answered %q", n.Name, b.local[k].Name, got)
			}
			if b.proxy == "iptables" && family == 4 && network == "tcp" {
				answers(t, "the node's port at 127.0.0.1", n.Ask, network, at(netip.MustParseAddr("127.0.0.1"), b.nodePort[k].Port), to.Name, nil)
			}
		}
	}
}

// hostPorts: a pod's port on its node, from everywhere.
func (b *bed) hostPorts(t *testing.T, network string, i, family int) {
	for k, to := range b.a {
		n := b.Nodes[k]
		port := at(n.Addr(family), hostPort)
		answers(t, "outside, its address kept", b.AskOutside, network, port, to.Name, b.address(family))
		answers(t, "the node by its address", n.Ask, network, port, to.Name, nil)
		answers(t, "the pod itself", to.Ask, network, port, to.Name, nil)
		answers(t, "a neighbour", b.b[k].Ask, network, port, to.Name, nil)
		for _, far := range b.b {
			answers(t, "pod "+far.Name, far.Ask, network, port, to.Name, nil)
		}
		if family == 4 {
			answers(t, "the node by 127.0.0.1", n.Ask, network, at(netip.MustParseAddr("127.0.0.1"), hostPort), to.Name, nil)
		}
	}
}

// names: pods find Services by the cluster's DNS, which is a pod of the last node.
func (b *bed) names(t *testing.T) {
	for _, p := range b.a {
		for j, to := range b.toB {
			out, err := b.Kubectl("exec", p.Name, "--", "dig", "+search", "+short", "+time=3", to.Name)
			if err != nil || strings.TrimSpace(out) != to.Addrs[0].String() {
				t.Errorf("%s asks for %s: %q (%v), want %s", p.Name, b.toB[j].Name, out, err, to.Addrs[0])
			}
		}
		if out, err := b.Kubectl("exec", p.Name, "--", "dig", "+tcp", "+short", "+time=3", "b-n1.default.svc."+domain); err != nil || out == "" {
			t.Errorf("%s asks over TCP: %q (%v)", p.Name, out, err)
		}
	}
}

// netfilterOnBridges has bridges' frames pass the packet filter, or not.
func (b *bed) netfilterOnBridges(t *testing.T, on bool) {
	t.Helper()
	value := "0"
	if on {
		value = "1"
	}
	for _, n := range b.Nodes {
		must(t, n.Script("sysctl -qw net.bridge.bridge-nf-call-iptables="+value+" net.bridge.bridge-nf-call-ip6tables="+value))
	}
	b.netfilter = on
	// The agents see that by and by: then neighbours see each other's own addresses, where
	// that can be.
	for k, from := range b.a {
		for i, own := range from.Addrs {
			must(t, Until(func() error {
				got, err := from.Ask("tcp", at(b.toB[k].Addrs[i], 80))
				if err == nil && on && got != b.b[k].Name+" "+own.String() {
					err = fmt.Errorf("%s asks a neighbour by its Service, and is seen as %q", from.Name, got)
				}
				return err
			}))
		}
	}
}

// TestServices: what Kubernetes asks of a network beside kube-proxy, in its two modes, with
// and without bridges' frames in the packet filter; pods on a bridge, and without one.
func TestServices(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			b := newBed(t, newCluster(t, mode, Options{Proxy: "nftables", BridgeNetfilter: true}))
			b.bridging = mode == "bridge"
			b.beside(t)
		})
	}
}

func (b *bed) beside(t *testing.T) {
	for _, b.proxy = range []string{"nftables", "iptables"} {
		for _, n := range b.Nodes {
			must(t, n.Proxy(b.proxy))
		}
		b.settled(t)
		for _, netfilter := range []bool{true, false} {
			b.netfilterOnBridges(t, netfilter)
			t.Run(fmt.Sprintf("%s bridge-nf-call %v", b.proxy, netfilter), func(t *testing.T) {
				t.Run("pods", func(t *testing.T) { b.each(t, b.pods) })
				t.Run("services", func(t *testing.T) { b.each(t, b.services) })
				t.Run("node ports", func(t *testing.T) { b.each(t, b.nodePorts) })
				t.Run("host ports", func(t *testing.T) { b.each(t, b.hostPorts) })
				t.Run("host ports of the node itself", func(t *testing.T) { b.each(t, b.ownPorts) })
				t.Run("names", b.names)
			})
		}
	}
}
