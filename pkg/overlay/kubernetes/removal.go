package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// order writes that something is removed. What nobody can use has no identity, and needs
// no order.
func (s *Store) order(ctx context.Context, r overlay.Removal) error {
	if r.At.IsZero() {
		r.At, r.By = time.Now(), s.o.By
	}
	if r.Validate() != nil {
		return nil
	}
	err := s.c.Create(ctx, s.removals.Path(), s.removalObject(r), nil)
	if err != nil && !client.IsExists(err) {
		return fmt.Errorf("write down the removal: %w", err)
	}
	return nil
}

// isRemoved tells whether there is an order to remove a node.
func (s *Store) isRemoved(ctx context.Context, node, token string) (bool, error) {
	err := s.c.Get(ctx, s.removals.Path(removalName(overlay.RemovalKey{Node: node, ID: token})), nil)
	if client.IsNotFound(err) && !client.IsNoResource(err) {
		return false, nil
	}
	return err == nil, err
}

// forgetRemovals keeps removals within their bounds. What goes wrong is for the next time.
func (s *Store) forgetRemovals(ctx context.Context) {
	var all []overlay.Removal
	_, err := s.c.List(ctx, s.removals, client.Selection{}, func(raw json.RawMessage) error {
		if o, err := decode[removalObject](raw); err == nil {
			if r, err := o.removal(); err == nil {
				all = append(all, r)
			}
		}
		return nil
	})
	if err == nil {
		err = each(overlay.OldRemovals(all, time.Now()), func(r overlay.Removal) error {
			err := s.c.Delete(ctx, s.removals.Path(removalName(r.Key())), "", "")
			if client.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	if err != nil {
		s.o.Log.Info("old removals are not forgotten", "error", err)
	}
}

// Restore is of [overlay.Admin]. A network comes last, after its blocks: nobody can
// claim one that is another's meanwhile. An agent in a pod has rights for what is its own
// node's alone: [overlay.ErrNotAllowed]. What another program in a pod gives back is of the
// cluster's Nodes: others, if they are there, come by themselves, and a host may remember
// some of a cluster that was before this one.
func (s *Store) Restore(ctx context.Context, from *overlay.State, dry bool) (*overlay.Restoration, error) {
	if s.registered() != nil && s.c.InPod() && !dry {
		return nil, overlay.ErrNotAllowed
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	have, err := s.State(ctx)
	if err != nil {
		return nil, err
	}
	r := overlay.NewRestoration(have, from)
	if s.c.InPod() {
		if err := s.onlyNodes(ctx, r); err != nil {
			return r, err
		}
	}
	if dry || r.Empty() {
		return r, nil
	}
	err = s.restore(ctx, r)
	if client.IsForbidden(err) {
		err = fmt.Errorf("%w: %w", overlay.ErrNotAllowed, err)
	}
	if err != nil {
		return r, fmt.Errorf("give back to Kubernetes what it has lost: %w", err)
	}
	return r, nil
}

// onlyNodes leaves of a restoration what is of Nodes that the cluster has.
func (s *Store) onlyNodes(ctx context.Context, r *overlay.Restoration) error {
	none := map[string]bool{}
	for _, n := range r.Nodes {
		if err := s.c.Get(ctx, client.Nodes.Path(n.Name), nil); client.IsNotFound(err) {
			none[n.Name] = true
		} else if err != nil {
			return err
		}
	}
	r.Nodes = slices.DeleteFunc(r.Nodes, func(n overlay.Node) bool { return none[n.Name] })
	r.Blocks = slices.DeleteFunc(r.Blocks, func(b overlay.Block) bool { return none[b.Node] })
	return nil
}

func (s *Store) restore(ctx context.Context, r *overlay.Restoration) error {
	if err := each(r.Removed, func(x overlay.Removal) error { return s.removeAgain(ctx, x) }); err != nil {
		return err
	}
	there := func(err error) error {
		if client.IsExists(err) {
			return nil
		}
		return err
	}
	err := each(r.Nodes, func(n overlay.Node) error {
		o := s.nodeObject(&n)
		var node client.Object
		if err := s.c.Get(ctx, client.Nodes.Path(n.Name), &node); err == nil {
			o.Metadata.Owners = []client.Owner{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: node.Metadata.UID}}
		}
		return there(s.c.Create(ctx, s.nodes.Path(), o, nil))
	})
	if err != nil {
		return err
	}
	owners, err := s.nodeObjects(ctx)
	if err != nil {
		return err
	}
	err = each(r.Blocks, func(b overlay.Block) error {
		return there(s.c.Create(ctx, s.blocks.Path(), s.blockObject(b, owners[b.Node]), nil))
	})
	if err != nil || len(r.Networks) == 0 {
		return err
	}
	return s.locked(ctx, func(ctx context.Context) error { return s.restoreNetworks(ctx, r.Networks) })
}

// restoreNetworks writes networks that other hosts may have written meanwhile. The lock is
// held.
func (s *Store) restoreNetworks(ctx context.Context, all []overlay.Network) error {
	have, err := s.listNetworks(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		is := false
		for _, o := range have {
			if is = is || o.Same(&n); is {
				break
			}
			if err := n.Conflict(&o); err != nil {
				return fmt.Errorf("network %q: %w", n.Name, err)
			}
		}
		if is {
			continue
		}
		if err := s.c.Create(ctx, s.networks.Path(), s.networkObject(&n), nil); err != nil {
			return fmt.Errorf("network %q: %w", n.Name, err)
		}
	}
	return nil
}

// nodeObjects are all of them, by name.
func (s *Store) nodeObjects(ctx context.Context) (map[string]*nodeObject, error) {
	all := map[string]*nodeObject{}
	_, err := s.c.List(ctx, s.nodes, client.Selection{}, func(raw json.RawMessage) error {
		if o, err := decode[nodeObject](raw); err == nil {
			all[o.Metadata.Name] = &o
		}
		return nil
	})
	return all, err
}

// removeAgain carries out an order that the server has forgotten, with what it was about.
func (s *Store) removeAgain(ctx context.Context, r overlay.Removal) error {
	if err := s.order(ctx, r); err != nil {
		return err
	}
	return again(ctx, func() error {
		if r.Node != "" {
			var o nodeObject
			err := s.c.Get(ctx, s.nodes.Path(r.Node), &o)
			if client.IsNotFound(err) || err == nil && o.Spec.Token != r.ID {
				return nil
			}
			if err != nil {
				return err
			}
			return s.dropNode(ctx, &o)
		}
		if validName(r.Network) != nil {
			return nil
		}
		var o networkObject
		err := s.c.Get(ctx, s.networks.Path(r.Network), &o)
		if n, _ := o.network(); client.IsNotFound(err) || err == nil && n.ID != r.ID {
			return nil
		}
		if err != nil {
			return err
		}
		return s.dropNetwork(ctx, r.Network, o.Metadata.UID)
	})
}

// Miss is of [overlay.Control]. It is told for as long as the node lives.
func (s *Store) Miss(ctx context.Context, m overlay.Missed) error {
	r := s.registered()
	if r == nil || r.node.Name != m.Node {
		return overlay.ErrNotRegistered
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	missing := any(m.Networks)
	if len(m.Networks) == 0 {
		missing = nil
	}
	err := s.c.Patch(ctx, s.nodes.Path(m.Node), client.Merge, map[string]any{
		"metadata": map[string]any{"uid": r.owner().Metadata.UID}, "status": map[string]any{"missing": missing}}, nil)
	if client.IsNotFound(err) || client.IsConflict(err) {
		s.poke()
		err = overlay.ErrNotRegistered
	}
	if err != nil {
		return fmt.Errorf("say what node %q misses: %w", m.Node, err)
	}
	return nil
}
