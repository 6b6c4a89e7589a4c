package integration

import (
	"fmt"
	"testing"
)

// TestBesidePortmap has containers of Berth and of the reference, with its portmap, on one
// host: each publishes a port, and each reaches what the other and a neighbour publish.
func TestBesidePortmap(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			ours := b.network(bridge)
			theirs, err := b.Network(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "theirs", "plugins": [
				{"type": "bridge", "bridge": "cni1", "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": %[1]q, "hairpinMode": true,
				 "ipam": {"type": "host-local", "subnet": "10.89.0.0/16"}},
				{"type": "portmap", "backend": %[1]q, "capabilities": {"portMappings": true}}]}`, backend), b.ref)
			must(t, err)
			own, neighbour, other := b.container("own"), b.container("neighbour"), b.container("other")
			_, ownIP := b.add(ours, own, tcpPort(8080, 80))
			b.add(ours, neighbour)
			_, otherIP := b.add(theirs, other, tcpPort(8081, 80))
			serve(t, own, ownIP+":80")
			serve(t, other, otherIP+":80")
			const host = "192.0.2.1"
			b.answers(b.outside, host+":8080", own, "192.0.2.2")
			b.answers(b.outside, host+":8081", other, "192.0.2.2")
			b.answers(own, host+":8080", own, gateway)
			b.answers(neighbour, host+":8080", own, gateway)
			b.answers(own, host+":8081", other, "10.89.0.1") // masqueraded, as towards everybody outside
			b.answers(other, host+":8080", own, gateway)
			b.answers(b.Host, "127.0.0.1:8080", own, gateway)
			b.answers(b.Host, "127.0.0.1:8081", other, "10.89.0.1")
			must(t, ours.Check(own, tcpPort(8080, 80)))
			must(t, theirs.Del(other, tcpPort(8081, 80)))
			b.answers(b.outside, host+":8080", own, "192.0.2.2")
			must(t, ours.Del(own, tcpPort(8080, 80)))
			must(t, ours.Del(neighbour))
		})
	}
}

// TestPortmapBehind chains the reference's portmap behind a network of ours that lets in only
// what is published: what portmap publishes is reached, and nothing else.
func TestPortmapBehind(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			n := b.network(`{"type": "bridge", "bridge": "berth0", "isDefaultGateway": true, "gatewayModeIPv4": "nat", "hairpinMode": true, "ipam": {"subnet": "10.88.0.0/16"}}`,
				fmt.Sprintf(`{"type": "portmap", "backend": %q, "capabilities": {"portMappings": true}}`, backend))
			c := b.container("c1")
			_, ip := b.add(n, c, tcpPort(8080, 80))
			serve(t, c, ip+":80")
			_, err := b.outside.Output("ip", "route", "replace", "10.88.0.0/16", "via", "192.0.2.1")
			must(t, err)
			b.answers(b.outside, "192.0.2.1:8080", c, "192.0.2.2")
			if got, err := b.outside.Ask(ip + ":80"); err == nil {
				t.Errorf("the container's own address is reached from outside: %q", got)
			}
			must(t, n.Check(c, tcpPort(8080, 80)))
			must(t, n.Del(c, tcpPort(8080, 80)))
		})
	}
}
