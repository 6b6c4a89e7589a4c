package bridged

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/publish"
)

// TestModesRefused: a message has the key, its value and what is wanted.
func TestModesRefused(t *testing.T) {
	for more, want := range map[string]string{
		`, "gatewayModeIPv4": "NAT"`:                                                  `gatewayModeIPv4: "NAT": want nat, nat-unprotected, routed or isolated`,
		`, "gatewayModeIPv6": "bridge"`:                                               `gatewayModeIPv6: "bridge": want nat`,
		`, "gatewayModeIPv4": "isolated"`:                                             `gatewayModeIPv4: "isolated": want internal true, too`,
		`, "gatewayModeIPv4": "routed", "ipMasq": true`:                               "ipMasq: true: cannot be together with gatewayModeIPv4 routed",
		`, "gatewayModeIPv6": "routed", "ipMasq": true`:                               "ipMasq: true: cannot be together with gatewayModeIPv6 routed",
		`, "gatewayModeIPv4": "isolated", "internal": true, "isDefaultGateway": true`: "isDefaultGateway: true: cannot be together with gatewayModeIPv4 isolated",
	} {
		if _, _, err := plan(t, more); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", more, err, want)
		}
	}
	for _, more := range []string{
		`, "gatewayModeIPv4": "nat", "ipMasq": true`, `, "gatewayModeIPv4": "routed", "ipMasq": false`,
		`, "gatewayModeIPv4": "nat", "internal": true`, `, "gatewayModeIPv4": "", "gatewayModeIPv6": ""`,
	} {
		if _, _, err := plan(t, more); err != nil {
			t.Errorf("%s: %v", more, err)
		}
	}
}

// TestRoutedPorts: a port of a family that is routed is opened, and not the host's, unless it
// is one of the host's loopback.
func TestRoutedPorts(t *testing.T) {
	const ports = `, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 81, "containerPort": 81, "hostIP": "127.0.0.1"}]}`
	for mode, want := range map[string]struct{ opened, claimed int }{"nat": {0, 2}, "nat-unprotected": {0, 2}, "routed": {1, 0}} {
		c, steps, err := plan(t, ports+`, "gatewayModeIPv4": "`+mode+`"`)
		if err != nil {
			t.Fatal(err)
		}
		claimed := 0
		for _, s := range steps {
			if p, ok := s.(*publish.Ports); ok {
				claimed = len(p.Ports)
			}
		}
		if len(c.rules.Open) != want.opened || claimed != want.claimed {
			t.Errorf("%s: %d opened, %d claimed, want %v", mode, len(c.rules.Open), claimed, want)
		}
	}
}

func TestNoGateway(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00::/64")
	for _, c := range []struct {
		modes   Modes
		subnets []netip.Prefix
		want    bool
	}{
		{Modes{}, nil, false}, {Modes{}, []netip.Prefix{v4}, false},
		{Modes{IPv4: firewall.Isolated}, nil, false}, {Modes{firewall.Isolated, firewall.Isolated}, nil, true},
		{Modes{IPv4: firewall.Isolated}, []netip.Prefix{v4}, true}, {Modes{IPv4: firewall.Isolated}, []netip.Prefix{v4, v6}, false},
		{Modes{IPv6: firewall.Isolated}, []netip.Prefix{v4}, false}, {Modes{firewall.Isolated, firewall.Isolated}, []netip.Prefix{v4, v6}, true},
	} {
		if got := c.modes.NoGateway(c.subnets); got != c.want {
			t.Errorf("%v of %v: %t", c.modes, c.subnets, got)
		}
	}
}
