package main

import (
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/cnitest"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// made has every option on.
var made = cnitest.Made{
	Plugin: "bridge", Network: "web", Bridge: "berth0",
	Conf: `{"cniVersion": "1.1.0", "name": "web", "type": "bridge", "bridge": "berth0",
		"isDefaultGateway": true, "ipMasq": true, "isolate": true, "icc": false, "macspoofchk": true}`,
	Config: func() cni.Config { return &config{} },
	Address: func(n byte) []attach.Address {
		v4, v6 := netip.MustParsePrefix("10.88.0.0/16"), netip.MustParsePrefix("fd00:88::/64")
		return []attach.Address{
			{Prefix: netip.PrefixFrom(cnitest.Nth(v4, n), 16), Gateway: cnitest.Nth(v4, 1)},
			{Prefix: netip.PrefixFrom(cnitest.Nth(v6, n), 64), Gateway: cnitest.Nth(v6, 1)}}
	},
}

func TestFaultLeavesNothing(t *testing.T) { made.FaultLeavesNothing(t) }
func TestReload(t *testing.T)             { made.Reload(t) }
func TestNextAddRestores(t *testing.T)    { made.NextAddRestores(t) }
