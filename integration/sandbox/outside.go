package sandbox

import (
	"errors"
	"strings"
	"time"
)

// The host's addresses, and those of the machine outside that is its default
// gateway (RFC 5737 and RFC 3849: documentation).
const (
	HostAddr4    = "192.0.2.1"
	HostAddr6    = "2001:db8::1"
	OutsideAddr4 = "192.0.2.2"
	OutsideAddr6 = "2001:db8::2"
	Uplink       = "uplink0" // the host's interface to the outside
)

// Outside gives the host an uplink, and a machine at its other end that knows no
// way to the host's containers: what they send has to be masqueraded. Their link-local
// addresses are theirs at once, without duplicate address detection: the host asks for
// its neighbours with them on behalf of containers. The kernel makes the routes of the
// host's two IPv6 addresses some time after them; they are there when Outside returns.
func (h *Host) Outside() (*Container, error) {
	c, err := h.Container("outside")
	if err != nil {
		return nil, err
	}
	err = h.Script(`
		ip link add uplink0 type veth peer name eth0 netns outside
		sysctl -qw net.ipv6.conf.uplink0.accept_dad=0
		ip netns exec outside sysctl -qw net.ipv6.conf.eth0.accept_dad=0
		ip addr add 192.0.2.1/24 dev uplink0
		ip addr add 2001:db8::1/64 dev uplink0 nodad
		ip link set uplink0 up
		ip -n outside addr add 192.0.2.2/24 dev eth0
		ip -n outside addr add 2001:db8::2/64 dev eth0 nodad
		ip -n outside link set eth0 up
		ip route add default via 192.0.2.2
		ip -6 route add default via 2001:db8::2`)
	for range 200 {
		var own string
		if err == nil {
			own, err = h.Output("ip", "-6", "route", "show", "table", "local", "dev", Uplink, "type", "local")
		}
		if err != nil || strings.Count(own, "\n") == 2 {
			return c, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return c, errors.New("the uplink's IPv6 addresses have no routes after 10 s")
}
