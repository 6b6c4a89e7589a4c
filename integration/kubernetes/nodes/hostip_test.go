package nodes

import (
	"net/netip"
	"strings"
	"testing"
)

// ownPorts: a pod's port at 127.0.0.1 or at ::1 of its node is the node's alone. The kernel
// sends no answer of elsewhere to ::1: a client of that address is refused at once, one of
// another address of the node is not.
func (b *bed) ownPorts(t *testing.T, network string, i, family int) {
	loopback := map[int]netip.Addr{4: netip.MustParseAddr("127.0.0.1"), 6: netip.IPv6Loopback()}[family]
	const port = hostPort + 1
	for k, to := range b.a {
		n := b.Nodes[k]
		own := at(loopback, port)
		if family == 4 {
			answers(t, "the node", n.Ask, network, own, to.Name, nil)
		} else {
			from := func(network, address string) (string, error) { return n.AskFrom(n.Addr6, network, address) }
			answers(t, "the node by its address", from, network, own, to.Name, nil)
			if got, err := n.Ask(network, own); network == "tcp" && (err == nil || !strings.Contains(err.Error(), "refused")) {
				t.Errorf("the node asks %s by ::1: %q, %v, want that it is refused", own, got, err)
			}
		}
		others := map[string]asker{"outside": b.AskOutside, "a neighbour": b.b[k].Ask, "the other node": b.Nodes[1-k].Ask}
		for who, ask := range others {
			if got, err := ask(network, at(n.Addr(family), port)); err == nil {
				t.Errorf("%s asks for the port of %s at %s, and is answered %q", who, loopback, n.Name, got)
			}
		}
	}
}
