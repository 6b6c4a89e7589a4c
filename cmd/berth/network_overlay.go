package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/overlay"
)

// networkView is a network that spans hosts as it is shown.
type networkView struct {
	overlay.Network
	Driver string      `json:"driver"`
	Scope  string      `json:"scope"`
	Nodes  []nodeShare `json:"nodes"`
	// Containers are those of this host.
	Containers []inspect.Attachment `json:"containers,omitempty"`
	// Problem is why no host uses the network.
	Problem string `json:"problem,omitempty"`
}

// nodeShare is what a node owns of a network.
type nodeShare struct {
	Name    string         `json:"name"`
	Address netip.Addr     `json:"address"`
	Alive   bool           `json:"alive"`
	Blocks  []netip.Prefix `json:"blocks"`

	seen time.Time
}

// networkViews are the networks of the store, sorted by name.
func networkViews(s *overlay.State) []networkView {
	conflicts := s.Conflicts()
	all := []networkView{}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		v := networkView{Network: s.Networks[name], Driver: driverOverlay, Scope: scopeHosts, Nodes: []nodeShare{}}
		if err := conflicts[name]; err != nil {
			v.Problem = err.Error()
		}
		for _, node := range slices.Sorted(maps.Keys(s.Nodes)) {
			if blocks := s.BlocksOf(name, node); len(blocks) > 0 {
				_, alive := s.Alive[node]
				v.Nodes = append(v.Nodes, nodeShare{node, s.Nodes[node].Address, alive, blocks, s.Nodes[node].Seen})
			}
		}
		all = append(all, v)
	}
	return all
}

// options are the words that a network was made with.
func (v *networkView) options() []string {
	var all []string
	for word, on := range map[string]bool{"internal": v.Internal, "isolate": v.Isolate, "no-icc": v.NoICC} {
		if on {
			all = append(all, word)
		}
	}
	if v.MTU != 0 {
		all = append(all, fmt.Sprintf("mtu=%d", v.MTU))
	}
	if v.Port != overlay.DefaultPort {
		all = append(all, fmt.Sprintf("udp-port=%d", v.Port))
	}
	if v.Problem != "" {
		all = append(all, "REFUSED")
	}
	slices.Sort(all)
	return all
}

func (v *networkView) table(w io.Writer) {
	row(w, "name:", v.Name)
	row(w, "driver:", v.Driver)
	row(w, "id:", host.Printable(v.ID))
	row(w, "created:", stamp(v.Created))
	for i, s := range v.Subnets {
		row(w, "subnet:", fmt.Sprintf("%s in blocks of /%d", s, v.NodePrefix[i]))
	}
	row(w, "vni:", v.VNI)
	row(w, "devices:", v.Device()+", "+v.Bridge())
	row(w, "udp port:", v.Port)
	mtu := "what the underlay leaves"
	if v.MTU != 0 {
		mtu = fmt.Sprint(v.MTU)
	}
	row(w, "mtu:", mtu)
	row(w, "options:", list(v.options()))
	for _, key := range slices.Sorted(maps.Keys(v.Labels)) {
		row(w, "label:", host.Printable(key+"="+v.Labels[key]))
	}
	if v.Problem != "" {
		row(w, "problem:", strings.ReplaceAll(v.Problem, "\n", "; "))
	}
	row(w, "")
	row(w, "NODE", "ADDRESS", "STATE", "BLOCKS")
	for _, n := range v.Nodes {
		row(w, n.Name, n.Address, life(n.Alive, n.seen), list(n.Blocks))
	}
	containerTable(w, v.Containers)
}

func (v *networkView) line() *networkLine {
	l := &networkLine{name: v.Name, driver: v.Driver, on: fmt.Sprintf("vni %d, %d nodes", v.VNI, len(v.Nodes)),
		options: v.options(), labels: v.Labels, containers: containers(v.Containers)}
	for _, s := range v.Subnets {
		l.subnets = append(l.subnets, s.String())
	}
	return l
}
