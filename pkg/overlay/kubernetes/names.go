package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// nameMap is the ConfigMap NETWORK.NODE, with all names that a node has on a network. Names
// of networks have no dot.
type nameMap struct {
	client.Object
	Data map[string]string `json:"data"`
}

const (
	namesData = "names" // the key of data
	// maxNames is a bound of what is read of it: the API takes 1 MiB.
	maxNames = 1 << 20
)

func (s *Store) networkLabel() string { return s.o.Group + "/network" }

// entry is a name in the map, by "CONTAINER:IFNAME".
type entry struct {
	Names     []string     `json:"names"`
	Addresses []netip.Addr `json:"addresses"`
}

type (
	nameValue struct {
		node  string
		names []overlay.Name
	}
	namesKey struct{ node string }
)

// parse is what a map says.
func (m *nameMap) parse(network string) (nameValue, error) {
	v := nameValue{node: nodeOf(m.Metadata.Name)}
	if want := network + "." + v.node; m.Metadata.Name != want || overlay.ValidName(v.node) != nil {
		return v, fmt.Errorf("want the name NETWORK.NODE, of network %s", network)
	}
	var all map[string]entry
	if text := m.Data[namesData]; text != "" {
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return v, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		container, ifname, ok := strings.Cut(key, ":")
		if !ok {
			return v, fmt.Errorf("%s: want a key such as CONTAINER:eth0", printable(key))
		}
		n := overlay.Name{NameKey: overlay.NameKey{Network: network, Node: v.node, Container: container, IfName: ifname}, Names: all[key].Names, Addresses: all[key].Addresses}
		if err := n.Validate(); err != nil {
			return v, fmt.Errorf("%s: %w", printable(key), err)
		}
		v.names = append(v.names, n)
	}
	return v, nil
}

// WatchNames is of [overlay.Roster], and goes on as [Store.Watch] does. A node's names are
// one object: what is told is which of them have changed.
func (s *Store) WatchNames(ctx context.Context, network string, fn func(overlay.Update)) error {
	if err := validName(network); err != nil {
		return fmt.Errorf("watch the names of network %q: %w", network, err)
	}
	of := &source{Resource: s.maps, selection: client.Selection{Labels: s.networkLabel() + "=" + network}}
	of.read = func(raw json.RawMessage) (client.Meta, any, any, error) {
		if len(raw) > maxNames {
			return client.Meta{}, nil, nil, fmt.Errorf("has %d bytes, want %d at most", len(raw), maxNames)
		}
		var m nameMap
		if err := json.Unmarshal(raw, &m); err != nil {
			return client.Meta{}, nil, nil, err
		}
		v, err := m.parse(network)
		return m.Metadata, v, namesKey{v.node}, err
	}
	for {
		err := s.collector(fn, []*source{of}).run(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.ctx.Err() != nil:
			return errClosed
		}
		s.o.Log.Info("reading all names anew", "network", network, "because", err)
		if sleep(ctx, pause(0)+s.spread()) != nil {
			return ctx.Err()
		}
	}
}

// PublishNames is of [overlay.Roster]. Each network's names of the node are written at
// once, on top of what is there.
func (s *Store) PublishNames(ctx context.Context, put []overlay.Name, drop []overlay.NameKey) error {
	if s.ctx.Err() != nil {
		return errClosed
	}
	r := s.registered()
	if r == nil {
		return overlay.ErrNotRegistered
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	changes, err := byNetwork(r.node.Name, put, drop)
	if err == nil {
		s.publishing.Lock()
		defer s.publishing.Unlock()
		for _, network := range slices.Sorted(maps.Keys(changes)) {
			err = errors.Join(err, again(ctx, func() error { return s.publish(ctx, r, network, changes[network]) }))
		}
	}
	if errors.Is(err, overlay.ErrNotRegistered) {
		return overlay.ErrNotRegistered
	}
	if err != nil {
		return fmt.Errorf("publish names of node %q: %w", r.node.Name, err)
	}
	return nil
}

// byNetwork are the changes of each network's map; nil for a name that goes.
func byNetwork(node string, put []overlay.Name, drop []overlay.NameKey) (map[string]map[string]*entry, error) {
	all := map[string]map[string]*entry{}
	note := func(k overlay.NameKey, e *entry) error {
		if k.Node != node {
			return fmt.Errorf("%s: is another node's", k)
		}
		if err := validName(k.Network); err != nil {
			return fmt.Errorf("%s: network: %w", k, err)
		}
		if all[k.Network] == nil {
			all[k.Network] = map[string]*entry{}
		}
		all[k.Network][k.Container+":"+k.IfName] = e
		return nil
	}
	for _, n := range put {
		if err := n.Validate(); err != nil {
			return nil, fmt.Errorf("%s: %w", n.NameKey, err)
		}
		if err := note(n.NameKey, &entry{n.Names, n.Addresses}); err != nil {
			return nil, err
		}
	}
	for _, k := range drop {
		if err := note(k, nil); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// publish writes one map. What was written last is remembered, so that a change costs one
// request.
func (s *Store) publish(ctx context.Context, r *registration, network string, changes map[string]*entry) error {
	name := network + "." + r.node.Name
	m := s.published[name]
	delete(s.published, name)
	if m == nil {
		m = &nameMap{}
		if err := s.c.Get(ctx, s.maps.Path(name), m); err != nil && !client.IsNotFound(err) {
			return err
		}
	}
	var all map[string]*entry
	if json.Unmarshal([]byte(m.Data[namesData]), &all) != nil || all == nil {
		all = map[string]*entry{} // nobody could use it
	}
	for k, e := range changes {
		if all[k] = e; e == nil {
			delete(all, k)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	owner := r.owner()
	w := nameMap{Object: client.Object{APIVersion: "v1", Kind: "ConfigMap", Metadata: client.Meta{
		Name: name, Namespace: s.o.Namespace, UID: m.Metadata.UID, Version: m.Metadata.Version,
		Labels: map[string]string{s.networkLabel(): network}, Owners: s.owned(owner), Managed: client.Unmanaged}}, Data: map[string]string{namesData: string(text)}}
	if m.Metadata.UID != "" {
		err = s.c.Replace(ctx, s.maps.Path(name), w, &w)
	} else {
		// Names do not outlive their node: not by a write that comes late.
		var o client.Object
		if err := s.c.Get(ctx, s.nodes.Path(r.node.Name), &o); client.IsNotFound(err) || err == nil && o.Metadata.UID != owner.Metadata.UID {
			s.poke()
			return overlay.ErrNotRegistered
		} else if err != nil {
			return err
		}
		err = s.c.Create(ctx, s.maps.Path(), w, &w)
	}
	if client.IsNotFound(err) {
		return errRaced
	}
	if err == nil {
		s.published[name] = &w
	}
	return raced(err)
}

// nameMapsOf are those that go with a node's object.
func (s *Store) nameMapsOf(ctx context.Context, uid string) (all []nameMap, err error) {
	_, err = s.c.List(ctx, s.maps, client.Selection{Labels: s.networkLabel()}, func(raw json.RawMessage) error {
		var m nameMap
		if json.Unmarshal(raw, &m) == nil && slices.ContainsFunc(m.Metadata.Owners, func(o client.Owner) bool { return o.UID == uid }) {
			m.Data = nil
			all = append(all, m)
		}
		return nil
	})
	return all, err
}
