package overlay

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestSharedIsKept has somebody change what the containers of a host share, on the way
// between them and the VXLAN device. The agent puts it back for the containers that are
// there; those that come then have it, too.
func TestSharedIsKept(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	h := b.Hosts[0]
	one, far := b.container(h, "one"), b.container(b.Hosts[1], "far")
	b.reaches(one, far)
	near, err := h.Peer("blue", false)
	must(t, err)
	n := b.definition(h, "blue")
	bridge := n.Bridge()
	for i, damage := range []string{
		"ip link del " + bridge,
		"ip addr flush dev " + bridge,
		fmt.Sprintf("ip route del %s dev %s", near.Blocks[0], bridge),
		fmt.Sprintf("ip -6 route del %s dev %s", near.Blocks[1], bridge),
		"sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
		"iptables-nft -P FORWARD DROP && ip6tables-nft -P FORWARD DROP",
		"iptables-nft -P FORWARD DROP && ip6tables-nft -P FORWARD DROP && iptables-nft -F FORWARD && ip6tables-nft -F FORWARD",
		"iptables-legacy -P FORWARD DROP && ip6tables-legacy -P FORWARD DROP",
		"ip link set " + bridge + " mtu 9000",
		"ip link set " + bridge + " down",
		"nft flush ruleset",
	} {
		if _, err := h.Output("sh", "-c", damage); err != nil {
			t.Errorf("%s: %v", damage, err)
			continue
		}
		check := func(c *place) error { return b.network(h, "blue").Check(c.Container) }
		took := b.eventually(40*time.Second, func() error { // what the kernel does not tell of waits for the next comparison
			return errors.Join(reach(one, far), reach(far, one), check(one))
		})
		two := b.container(h, fmt.Sprint("new", i))
		b.eventually(patience, func() error { // the kernel adds an IPv6 address's own route a moment after the address
			return errors.Join(reach(two, far), reach(far, two), reach(one, two), reach(two, one))
		})
		for _, c := range []*place{one, two} {
			if err := check(c); err != nil {
				t.Errorf("%s: CHECK of %s: %v", damage, c.ID, err)
			}
		}
		if out, err := h.Berth(append([]string{"doctor"}, b.where()...)...); err != nil {
			t.Errorf("%s: the doctor: %v\n%s", damage, err, out)
		}
		must(t, b.network(h, "blue").Del(two.Container))
		t.Logf("%-60s put right after %v", damage, took.Round(time.Millisecond))
	}
}
