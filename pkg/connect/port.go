package connect

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
)

// ParsePorts reads [ADDRESS:]PORT:PORT[/PROTOCOL], a port of the host and one of the
// container, or as many of both: 8000-8002:80-82.
func ParsePorts(s string) ([]attach.Port, error) {
	text, protocol, given := strings.Cut(s, "/")
	if !given {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
		return nil, fmt.Errorf("%q is no protocol", protocol)
	}
	rest, container, ok := cutLast(text)
	if !ok {
		return nil, errors.New("a port of the host and one of the container")
	}
	address, host, ok := cutLast(rest)
	if !ok {
		address, host = "", rest
	}
	var ip netip.Addr
	if ok {
		var err error
		if ip, err = netip.ParseAddr(strings.Trim(address, "[]")); err != nil {
			return nil, fmt.Errorf("%q is no address", address)
		}
	}
	from, err := portRange(host)
	if err != nil {
		return nil, err
	}
	to, err := portRange(container)
	if err != nil {
		return nil, err
	}
	if len(from) != len(to) {
		return nil, fmt.Errorf("%d ports of the host and %d of the container", len(from), len(to))
	}
	var all []attach.Port
	for i := range from {
		all = append(all, attach.Port{HostIP: ip.Unmap(), HostPort: from[i], ContainerPort: to[i], Protocol: protocol})
	}
	return all, nil
}

// cutLast cuts at the last colon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func portRange(s string) ([]uint16, error) {
	low, high, two := strings.Cut(s, "-")
	if !two {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if err := errors.Join(err, err2); err != nil || from < 1 || to > math.MaxUint16 || from > to {
		return nil, fmt.Errorf("%q is no port", s)
	}
	var all []uint16
	for port := from; port <= to; port++ {
		all = append(all, uint16(port))
	}
	return all, nil
}
