package main

import (
	"net/netip"
	"testing"

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
		Mode: mode, Network: "blue", Bridge: local.Network.Bridge(),
		Conf: `{"cniVersion": "1.1.0", "name": "blue", "type": "vxlan-overlay", "macspoofchk": true, "ipspoofchk": true}`,
		Address: func(n byte) []netip.Addr {
			return []netip.Addr{cnitest.Nth(local.Blocks[0], n), cnitest.Nth(local.Blocks[2], n)}
		},
	}
}

func TestFaultLeavesNothing(t *testing.T) { made(t).FaultLeavesNothing(t) }
func TestReload(t *testing.T)             { made(t).Reload(t) }
func TestNextAddRestores(t *testing.T)    { made(t).NextAddRestores(t) }
