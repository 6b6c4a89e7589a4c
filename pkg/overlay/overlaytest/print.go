package overlaytest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Print is a state's names, in order.
func Print(s *overlay.State) string {
	var blocks []string
	for k, b := range s.Blocks {
		blocks = append(blocks, fmt.Sprintf("%s:%s=%s", k.Network, k.Prefix, b.Node))
	}
	slices.Sort(blocks)
	return fmt.Sprintf("networks %v nodes %v blocks [%s] alive %v bad %v", slices.Sorted(maps.Keys(s.Networks)),
		slices.Sorted(maps.Keys(s.Nodes)), strings.Join(blocks, " "), slices.Sorted(maps.Keys(s.Alive)), slices.Sorted(maps.Keys(s.Bad)))
}
