package kubernetes

import (
	"context"
	"encoding/json"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// put puts what an object says into an update.
func (c *collector) put(u *overlay.Update, name string, value any) {
	switch v := value.(type) {
	case overlay.Network:
		u.Networks = append(u.Networks, v)
	case nodeValue:
		u.Nodes = append(u.Nodes, v.Node)
		c.lead(u, name, v.nodeLife)
		c.s.look(name, v.Token, v.Alive.Instance)
	case overlay.Block:
		u.Blocks = append(u.Blocks, v)
	case overlay.Removal:
		u.Removed = append(u.Removed, v)
		c.removed[v.Key()] = true
		c.s.calm(v.Key())
	case nameValue:
		c.lead(u, v.node, nodeLife{names: v.names})
	}
}

// drop puts into an update that an object is not there any more.
func (c *collector) drop(u *overlay.Update, k pendingKey, was held) {
	if was.bad {
		u.GoneBad = append(u.GoneBad, printable(k.of.Plural+"/"+k.name))
		return
	}
	c.forget(u, k.name, was.key)
	c.deleted(k.name, was.key)
}

// deleted looks after the order to remove what has gone. Where there is none, somebody has
// deleted the object at the API: see [Store.witness]. It is told only in a history that is
// proven to go on.
func (c *collector) deleted(name string, key any) {
	r := overlay.Removal{}
	switch key := key.(type) {
	case networkKey:
		r.Network, r.ID = name, key.ID
	case nodeKey:
		r.Node, r.ID = key.Node, key.ID
	default:
		return
	}
	if c.own && c.told && !c.removed[r.Key()] {
		c.s.witness(r)
	}
}

// forget puts into an update that what an object said does not hold any more.
func (c *collector) forget(u *overlay.Update, name string, key any) {
	switch key := key.(type) {
	case networkKey:
		u.GoneNetworks = append(u.GoneNetworks, name)
	case nodeKey:
		u.GoneNodes = append(u.GoneNodes, name)
		c.end(u, name)
		c.s.look(name, "", "")
	case overlay.BlockKey:
		u.GoneBlocks = append(u.GoneBlocks, key)
	case overlay.RemovalKey:
		u.GoneRemoved = append(u.GoneRemoved, key)
		delete(c.removed, key)
	case namesKey:
		c.end(u, key.node)
	}
}

// look has the registration look after its node's object where that is not as it shall be.
func (s *Store) look(name, token, instance string) {
	if r := s.registered(); r != nil && r.node.Name == name && (r.node.Token != token || r.instance != instance) {
		s.poke()
	}
}

// State reads everything, once.
func (s *Store) State(ctx context.Context) (*overlay.State, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	state := overlay.NewState()
	c := s.collector(nil, s.sources())
	for _, of := range c.sources {
		version, err := s.c.List(ctx, of.Resource, of.selection, func(raw json.RawMessage) error {
			m, err := of.message(put, raw)
			c.pend(m)
			return err
		})
		if err != nil {
			return nil, err
		}
		of.version = version
	}
	switch all := s.sweep(ctx); {
	case client.IsForbidden(all.err): // whoever asks may read networks, and no more
	case all.err != nil:
		return nil, all.err
	default:
		c.leases = all.leases
	}
	c.flush()
	for _, u := range c.queue {
		state.Apply(u)
	}
	return state, nil
}
