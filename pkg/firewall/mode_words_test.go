package firewall

import (
	"strings"
	"testing"
)

func TestModeWords(t *testing.T) {
	for modes, want := range map[[2]GatewayMode]string{
		{}: "", {NAT, NAT}: "nat", {NAT, Plain}: "ipv4=nat", {Plain, Routed}: "ipv6=routed", {NATUnprotected, Isolated}: "ipv4=nat-unprotected ipv6=isolated",
	} {
		if got := strings.Join(ModeWords(modes[0], modes[1]), " "); got != want {
			t.Errorf("%q: %q, want %q", modes, got, want)
		}
	}
}
