package main

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/cnitest"
)

// madeRouted has every option of a network without a bridge on.
func madeRouted() cnitest.Made {
	m := made
	m.Conf = strings.Replace(m.Conf, `"bridge": "berth0"`, `"mode": "routed"`, 1)
	m.Bridge = attach.Key{Network: "web", Container: "a", IfName: "eth0"}.HostIfName()
	m.Backends = []string{"nftables"}
	return m
}

func TestRoutedFaultLeavesNothing(t *testing.T) { madeRouted().FaultLeavesNothing(t) }
func TestRoutedReload(t *testing.T)             { madeRouted().Reload(t) }
func TestRoutedNextAddRestores(t *testing.T)    { madeRouted().NextAddRestores(t) }

// TestRoutedRefused: what a network without a bridge cannot have is refused, by its key.
func TestRoutedRefused(t *testing.T) {
	const ipam = `, "ipam": {"subnet": "10.1.0.0/24"}`
	for conf, want := range map[string]string{
		`"mode": "brigde"` + ipam:                                                  `mode: "brigde": want bridge or routed`,
		`"mode": "routed"`:                                                         `mode: "routed": want an ipam section`,
		`"mode": "routed", "ipam": {"type": "dhcp"}`:                               `ipam.type: "dhcp": cannot be together with mode routed`,
		`"mode": "routed", "vlan": 7` + ipam:                                       `vlan: 7: cannot be together with mode routed`,
		`"mode": "routed", "vlanTrunk": [{"id": 3}]` + ipam:                        `vlanTrunk: `,
		`"mode": "routed", "portIsolation": true` + ipam:                           `portIsolation: true: cannot be together with mode routed`,
		`"mode": "routed", "internal": true, "gatewayModeIPv4": "isolated"` + ipam: `gatewayModeIPv4: "isolated": cannot be together with mode routed`,
		`"mode": "routed", "firewallBackend": "iptables"` + ipam:                   `mode: "routed": takes the firewall backend nftables, not iptables`,
	} {
		r, err := cni.NewRequest(&cni.CmdArgs{StdinData: []byte(`{"name": "n", ` + conf + `}`)}, mode.Config())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Plan(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", conf, err, want)
		}
	}
}
