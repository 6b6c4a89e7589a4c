package kubernetes

import (
	"context"
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// RemoveNode is of [overlay.Admin]. The name goes first, so that the node can claim
// nothing any more, then its blocks and names. When that is interrupted, calling it again
// ends it; it also removes the blocks of a node that is gone otherwise.
func (s *Store) RemoveNode(ctx context.Context, name string, force bool) error {
	err := overlay.ValidName(name)
	if err == nil {
		ctx, cancel := s.bound(ctx)
		defer cancel()
		err = again(ctx, func() error { return s.removeNode(ctx, name, force) })
	}
	if _, used := err.(*overlay.InUseError); err != nil && !used {
		return fmt.Errorf("remove node %q: %w", name, err)
	}
	if err == nil {
		s.forgetRemovals(ctx)
	}
	return err
}

func (s *Store) removeNode(ctx context.Context, name string, force bool) error {
	blocks, err := s.blocksOf(ctx, "spec.node="+name)
	if err != nil {
		return err
	}
	var o nodeObject
	err = s.c.Get(ctx, s.nodes.Path(name), &o)
	switch {
	case client.IsNotFound(err) && len(blocks) == 0:
		return overlay.ErrNotFound
	case client.IsNotFound(err):
		return s.dropBlocks(ctx, blocks)
	case err != nil:
		return err
	}
	if !force {
		var l lease
		err := s.c.Get(ctx, s.leases.Path(name), &l)
		if err != nil && !client.IsNotFound(err) {
			return err
		}
		if err == nil && o.lives(&l, s.c.Now()) {
			return &overlay.InUseError{What: fmt.Sprintf("node %q", name), By: []string{name}}
		}
	}
	if err := s.order(ctx, overlay.Removal{Node: name, ID: o.Spec.Token, Forced: force}); err != nil {
		return err
	}
	return s.dropNode(ctx, &o)
}

// dropNode deletes a node's object, and behind it what is the node's: a cluster's garbage
// collector would do that, too, later.
func (s *Store) dropNode(ctx context.Context, o *nodeObject) error {
	name := o.Metadata.Name
	if err := s.c.Delete(ctx, s.nodes.Path(name), o.Metadata.UID, ""); err != nil && !client.IsNotFound(err) {
		return raced(err)
	}
	// So that its agent learns of it at once.
	if err := s.c.Delete(ctx, s.leases.Path(name), "", ""); err != nil && !client.IsNotFound(err) {
		return err
	}
	blocks, err := s.blocksOf(ctx, "spec.node="+name)
	if err != nil {
		return err
	}
	var dead []blockObject
	for _, b := range blocks {
		if b.Spec.Token == o.Spec.Token { // others were claimed since, by a new node of the name
			dead = append(dead, b)
		}
	}
	if err := s.dropBlocks(ctx, dead); err != nil {
		return err
	}
	maps, err := s.nameMapsOf(ctx, o.Metadata.UID)
	if err != nil {
		return err
	}
	return each(maps, func(m nameMap) error {
		err := s.c.Delete(ctx, s.maps.Path(m.Metadata.Name), m.Metadata.UID, "")
		if client.IsNotFound(err) || client.IsConflict(err) {
			return nil
		}
		return err
	})
}

// nodeOf is the node in the name of a map of names, "NETWORK.NODE".
func nodeOf(mapName string) string {
	_, node, _ := strings.Cut(mapName, ".")
	return node
}
