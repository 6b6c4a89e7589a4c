package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/network"
)

// overlayNetworkView writes a network that spans hosts.
type overlayNetworkView struct{ *network.OverlayView }

func (v overlayNetworkView) table(w io.Writer) {
	row(w, "name:", v.Name)
	row(w, "id:", short12(v.docker().ID))
	row(w, "driver:", v.Driver)
	row(w, "created:", stamp(v.Created))
	for i, s := range v.Subnets {
		row(w, "subnet:", fmt.Sprintf("%s in blocks of /%d", s, v.NodePrefix[i]))
	}
	row(w, "vni:", v.VNI)
	row(w, "devices:", v.Device()+", "+v.Bridge())
	row(w, "udp port:", v.UDPPort())
	mtu := "what the underlay leaves"
	if v.MTU != 0 {
		mtu = fmt.Sprint(v.MTU)
	}
	row(w, "mtu:", mtu)
	row(w, "options:", list(v.Options()))
	for _, key := range slices.Sorted(maps.Keys(v.Labels)) {
		row(w, "label:", host.Printable(key+"="+v.Labels[key]))
	}
	if v.Problem != "" {
		row(w, "problem:", strings.ReplaceAll(v.Problem, "\n", "; "))
	}
	row(w, "")
	row(w, "NODE", "ADDRESS", "STATE", "BLOCKS")
	for _, n := range v.Nodes {
		row(w, n.Name, n.Address, life(n.Alive, n.Seen), list(n.Blocks))
	}
	containerTable(w, v.Containers)
}

func (v overlayNetworkView) line() *networkLine {
	l := &networkLine{name: v.Name, driver: v.Driver, on: fmt.Sprintf("vni %d, %d nodes", v.VNI, len(v.Nodes)), id: v.docker().ID, scope: v.Scope,
		options: v.Options(), labels: v.Labels, containers: containers(v.Containers)}
	for _, s := range v.Subnets {
		l.subnets = append(l.subnets, s.String())
	}
	return l
}
