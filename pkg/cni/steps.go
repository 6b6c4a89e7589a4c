package cni

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/link/parent"
	"github.com/berth-cni/berth/pkg/names"
)

// Decode returns an empty step of a kind: every kind that any plugin puts into a
// record.
func Decode(kind string) attach.Step {
	switch kind {
	case "forwarding":
		return &link.Forwarding{}
	case "bridge":
		return &link.Bridge{}
	case "veth":
		return &link.Veth{}
	case "routed":
		return &link.Routed{}
	case "macvlan":
		return &macvlan.Interface{}
	case "host-shim":
		return &macvlan.HostShim{}
	case "ipvlan":
		return &ipvlan.Interface{}
	case "subinterface":
		return &parent.Subinterface{}
	case "loopback":
		return &link.Loopback{}
	case "rebind":
		return &netns.Rebind{}
	case "localnet":
		return &link.Localnet{}
	case ipam.DelegateKind:
		return &ipam.Delegate{}
	case "gateway": // of records that kept it
		return &link.Gateway{}
	case "forward":
		return &allow.Forward{}
	case "spoof":
		return &firewall.Spoof{}
	case "confined":
		return &firewall.Confined{}
	case "hairpin":
		return &firewall.Hairpin{}
	case "firewall":
		return &firewall.Rules{}
	case "names":
		return &names.Register{}
	}
	return nil
}
