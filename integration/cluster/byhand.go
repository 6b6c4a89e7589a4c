package cluster

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/pkg/overlay"
)

// ByHand builds one node's side of a network with ip and bridge alone, without a
// firewall: what Berth's overlay is measured beside, and the proof that [Wanted] is
// enough for traffic to flow.
func (h *Host) ByHand(n overlay.Network, self Peer, all []Peer) error {
	var script strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&script, format+"\n", args...) }
	dev := n.Device()
	line("ip link add %s address %s mtu %d type vxlan id %d local %s dstport %d nolearning",
		dev, overlay.MAC(n.Name, self.Name), self.MTU, n.VNI, self.Address, n.Port)
	line("ip link set %s addrgenmode none", dev) // before up: else it has a link-local address
	line("ip link set %s up", dev)
	for _, a := range self.nextHops() {
		line("ip addr add %s/%d dev %s", a, a.BitLen(), dev)
	}
	for _, subnet := range n.Subnets {
		line("ip route add unreachable %s metric %d proto %d", subnet, uint32(unreachableMetric), routeProtocol)
	}
	for _, p := range all {
		if p.Name == self.Name {
			continue
		}
		mac := overlay.MAC(n.Name, p.Name)
		line("bridge fdb replace %s dev %s dst %s self permanent", mac, dev, p.Address)
		for _, a := range p.nextHops() {
			line("ip neigh replace %s lladdr %s dev %s nud permanent", a, mac, dev)
		}
		for _, b := range p.Blocks {
			mtu := ""
			if p.MTU < self.MTU {
				mtu = fmt.Sprintf(" mtu %d", p.MTU)
			}
			line("ip route replace %s via %s dev %s onlink proto %d%s", b, p.nextHop(b), dev, routeProtocol, mtu)
		}
	}
	line("ip link add %s mtu %d type bridge", n.Bridge(), self.MTU)
	line("ip link set %s up", n.Bridge())
	for _, b := range self.Blocks {
		line("ip addr add %s/%d dev %s%s", overlay.Gateway(b), b.Bits(), n.Bridge(), nodad(b))
	}
	if err := h.Script(script.String()); err != nil {
		return err
	}
	return h.Do(func() error {
		for path, v := range map[string]string{
			"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
			"ipv4/conf/" + dev + "/rp_filter": "2", "ipv6/conf/" + dev + "/accept_ra": "0",
		} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(v), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// nodad keeps an IPv6 address from being tentative for a second.
func nodad(p netip.Prefix) string {
	if p.Addr().Is6() {
		return " nodad"
	}
	return ""
}

// ContainerByHand makes a container, joins it to the bridge of [Host.ByHand], and
// returns its addresses: in each block the one that many after the gateway.
func (h *Host) ContainerByHand(n overlay.Network, self Peer, name string, number int) (*sandbox.Container, []netip.Addr, error) {
	c, err := h.Container(name)
	if err != nil {
		return nil, nil, err
	}
	var script strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&script, format+"\n", args...) }
	line("ip link add h-%[1]s mtu %[2]d type veth peer name eth0 mtu %[2]d netns %[1]s", name, self.MTU)
	line("ip link set h-%s master %s up", name, n.Bridge())
	line("ip -n %s link set eth0 up", name)
	var addrs []netip.Addr
	for _, b := range self.Blocks {
		gateway := overlay.Gateway(b)
		addr := gateway
		for range number {
			addr = addr.Next()
		}
		line("ip -n %s addr add %s/%d dev eth0%s", name, addr, b.Bits(), nodad(b))
		line("ip -n %s route add default via %s", name, gateway)
		addrs = append(addrs, addr)
	}
	return c, addrs, h.Script(script.String())
}
