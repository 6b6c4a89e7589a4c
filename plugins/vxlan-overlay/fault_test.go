package main

import (
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/cnitest"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// made has every option on.
func made(t *testing.T) cnitest.Made {
	dir := t.TempDir()
	t.Setenv(overlay.DataDirEnv, dir)
	local := blue()
	local.Network.Isolate, local.Network.NoICC = true, true
	if err := local.Write(dir); err != nil {
		t.Fatal(err)
	}
	return cnitest.Made{
		Plugin: "vxlan-overlay", Network: "blue", Bridge: local.Network.Bridge(),
		Conf:   `{"cniVersion": "1.1.0", "name": "blue", "type": "vxlan-overlay", "macspoofchk": true}`,
		Config: func() cni.Config { return &config{IsDefaultGateway: true, IPMasq: true} },
		Address: func(n byte) []attach.Address {
			var all []attach.Address
			for _, b := range []netip.Prefix{local.Blocks[0], local.Blocks[2]} {
				all = append(all, attach.Address{Prefix: netip.PrefixFrom(cnitest.Nth(b, n), b.Bits()), Gateway: overlay.Gateway(b)})
			}
			return all
		},
	}
}

func TestFaultLeavesNothing(t *testing.T) { made(t).FaultLeavesNothing(t) }
func TestReload(t *testing.T)             { made(t).Reload(t) }
func TestNextAddRestores(t *testing.T)    { made(t).NextAddRestores(t) }
