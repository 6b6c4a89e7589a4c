package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/overlay"
)

// OverlayView is a network that spans hosts as it is shown.
type OverlayView struct {
	overlay.Network
	Driver string      `json:"driver"`
	Scope  string      `json:"scope"`
	Nodes  []NodeShare `json:"nodes"`
	// Containers are those of this host.
	Containers []inspect.Attachment `json:"containers,omitempty"`
	// Problem is why no host uses the network.
	Problem string `json:"problem,omitempty"`
}

// NodeShare is what a node owns of a network.
type NodeShare struct {
	Name    string         `json:"name"`
	Address netip.Addr     `json:"address"`
	Alive   bool           `json:"alive"`
	Blocks  []netip.Prefix `json:"blocks"`

	Seen time.Time `json:"-"`
}

// OverlayViews are the networks of the store, sorted by name.
func OverlayViews(s *overlay.State) []OverlayView {
	conflicts := s.Conflicts()
	all := []OverlayView{}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		v := OverlayView{Network: s.Networks[name], Driver: conflist.Overlay, Scope: ScopeGlobal, Nodes: []NodeShare{}}
		if err := conflicts[name]; err != nil {
			v.Problem = err.Error()
		}
		for _, node := range slices.Sorted(maps.Keys(s.Nodes)) {
			if blocks := s.BlocksOf(name, node); len(blocks) > 0 {
				_, alive := s.Alive[node]
				v.Nodes = append(v.Nodes, NodeShare{node, s.Nodes[node].Address, alive, blocks, s.LastSeen(node)})
			}
		}
		all = append(all, v)
	}
	return all
}

// Options are the words that a network was made with.
func (v *OverlayView) Options() []string {
	var all []string
	for word, on := range map[string]bool{"internal": v.Internal, "isolate": v.Isolate, "no-icc": v.NoICC, "encrypted": v.Encrypted, "names": v.Names, "sticky=" + v.Sticky: v.Sticky != ""} {
		if on {
			all = append(all, word)
		}
	}
	if v.MTU != 0 {
		all = append(all, fmt.Sprintf("mtu=%d", v.MTU))
	}
	if port := v.UDPPort(); port != overlay.DefaultPort && port != overlay.FirstListen {
		all = append(all, fmt.Sprintf("udp-port=%d", port))
	}
	if v.Problem != "" {
		all = append(all, "REFUSED")
	}
	slices.Sort(all)
	return all
}
