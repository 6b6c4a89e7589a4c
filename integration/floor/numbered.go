package floor

import (
	"fmt"
	"net/netip"
)

// Bridge is the name of the bridge that [Numbered] links belong on, and Gateway its
// address.
const (
	Bridge  = "floor0"
	Gateway = "10.240.0.1/16"
)

// Numbered is the link of the container with a number, 0 to 60,000: name, MAC and
// address follow from it. Its Bridge is not set.
func Numbered(n int, netns string) Link {
	a, b := byte((n+2)>>8), byte(n+2)
	return Link{
		Name: fmt.Sprintf("floor%d", n+1), Peer: "eth0", Netns: netns,
		MAC:     [6]byte{2, 0x42, 10, 240, a, b},
		Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 240, a, b}), 16),
		Gateway: netip.MustParsePrefix(Gateway).Addr(),
	}
}
