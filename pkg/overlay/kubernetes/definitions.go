package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// RemoveDefinitions deletes the definitions of the custom resources, and with them every
// object of theirs: the last thing of an uninstall. It refuses while a node is registered,
// whose agent would take that for a store that lost something. Agents have no right to it.
func (s *Store) RemoveDefinitions(ctx context.Context) error {
	var nodes []string
	_, err := s.c.List(ctx, s.nodes, client.Selection{}, func(raw json.RawMessage) error {
		var o struct{ Metadata struct{ Name string } }
		err := json.Unmarshal(raw, &o)
		nodes = append(nodes, o.Metadata.Name)
		return err
	})
	if err != nil && !client.IsNotFound(err) {
		return err
	}
	if len(nodes) > 0 {
		slices.Sort(nodes)
		return fmt.Errorf("there are nodes that have Berth: %s: reset these first", strings.Join(nodes, ", "))
	}
	for _, r := range []client.Resource{s.networks, s.nodes, s.blocks, s.removals} {
		name := r.Plural + "." + r.Group
		if err := s.c.Delete(ctx, client.Definitions.Path(name), "", ""); err != nil && !client.IsNotFound(err) {
			return fmt.Errorf("delete the definition %s: %w", name, err)
		}
	}
	return nil
}
