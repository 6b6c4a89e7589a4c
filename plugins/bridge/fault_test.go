package main

import (
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/cni/cnitest"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// made has every option on.
var made = cnitest.Made{
	Mode: mode, Network: "web", Bridge: "berth0",
	Conf: `{"cniVersion": "1.1.0", "name": "web", "type": "bridge", "bridge": "berth0",
		"isDefaultGateway": true, "ipMasq": true, "isolate": true, "icc": false, "macspoofchk": true, "ipspoofchk": true, "gatewayModeIPv4": "nat", "gatewayModeIPv6": "nat",
		"ipam": {"ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]]}}`,
	Address: func(n byte) []netip.Addr {
		return []netip.Addr{cnitest.Nth(netip.MustParsePrefix("10.88.0.0/16"), n), cnitest.Nth(netip.MustParsePrefix("fd00:88::/64"), n)}
	},
}

func TestFaultLeavesNothing(t *testing.T) { made.FaultLeavesNothing(t) }
func TestReload(t *testing.T)             { made.Reload(t) }
func TestNextAddRestores(t *testing.T)    { made.NextAddRestores(t) }
