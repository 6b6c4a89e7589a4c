package link

import (
	"fmt"
	"net/netip"
)

// Overlaps says in words which of the host's routes lead into one of the subnets.
func Overlaps(subnets []netip.Prefix, routes []HostRoute) []string {
	var found []string
	for _, s := range subnets {
		for _, r := range routes {
			if !s.Overlaps(r.Dst) {
				continue
			}
			through := ""
			if r.Device != "" {
				through = " through " + r.Device
			}
			found = append(found, fmt.Sprintf("%s: overlaps %s, which this host reaches%s", s, r.Dst, through))
		}
	}
	return found
}
