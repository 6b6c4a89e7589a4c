package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// source is a resource that is followed.
type source struct {
	client.Resource
	selection client.Selection
	// read returns what an object says, and what is to be kept of it: by that gone says
	// that it is there no more. The error says why nobody can use it.
	read func(json.RawMessage) (meta client.Meta, value, key any, err error)

	wake chan struct{} // the server has answered another one's request

	// What follows is the collector's.
	held     map[string]held // by the object's name
	seen     map[string]bool // of a list that is under way; nil: none is
	version  string          // up to which everything has come
	synced   bool            // all objects have come once
	runs     bool            // the watch stands
	failures int
}

// held is what is known of an object.
type held struct {
	version string
	key     any
	bad     bool // nobody can use it
}

// Keys of networks and nodes: by what the order to remove them is found.
type (
	networkKey struct{ overlay.RemovalKey }
	nodeKey    struct{ overlay.RemovalKey }
)

// nodeValue is what a node's object says.
type nodeValue struct {
	overlay.Node
	nodeLife
}

// sources are all that a node is told of, but the names.
func (s *Store) sources() []*source {
	return []*source{
		{Resource: s.networks, read: func(raw json.RawMessage) (client.Meta, any, any, error) {
			o, err := decode[networkObject](raw)
			if err != nil {
				return client.Meta{}, nil, nil, err
			}
			n, err := o.network()
			return o.Metadata, n, networkKey{overlay.RemovalKey{ID: n.ID}}, err
		}},
		{Resource: s.nodes, read: func(raw json.RawMessage) (client.Meta, any, any, error) {
			o, err := decode[nodeObject](raw)
			if err != nil {
				return client.Meta{}, nil, nil, err
			}
			n, err := o.node()
			life := nodeLife{left: when(o.Status.Left), missing: o.Status.Missing, expired: o.Status.Expired, token: n.Token}
			if a := o.Status.Agent; a != nil {
				life.Alive = overlay.Alive{Node: n.Name, Instance: a.Instance, Address: n.Address, Since: when(a.Since)}
			}
			return o.Metadata, nodeValue{n, life}, nodeKey{overlay.RemovalKey{Node: n.Name, ID: n.Token}}, err
		}},
		{Resource: s.blocks, read: func(raw json.RawMessage) (client.Meta, any, any, error) {
			o, err := decode[blockObject](raw)
			if err != nil {
				return client.Meta{}, nil, nil, err
			}
			b, err := o.block()
			return o.Metadata, b, b.Key(), err
		}},
		{Resource: s.removals, read: func(raw json.RawMessage) (client.Meta, any, any, error) {
			o, err := decode[removalObject](raw)
			if err != nil {
				return client.Meta{}, nil, nil, err
			}
			r, err := o.removal()
			return o.Metadata, r, r.Key(), err
		}},
	}
}

// message is what who follows a source says to the collector.
type message struct {
	of            *source
	kind          int
	name, version string
	value, key    any
	err           error
}

// message is what there is to say of an object.
func (of *source) message(kind int, raw json.RawMessage) (message, error) {
	m := message{of: of, kind: kind}
	var meta client.Meta
	if kind == put {
		meta, m.value, m.key, m.err = of.read(raw)
	}
	if meta.Name == "" { // nobody can use it, or needs to
		var o client.Object
		if err := json.Unmarshal(raw, &o); err != nil {
			return m, err
		}
		meta = o.Metadata
	}
	m.name, m.version = meta.Name, meta.Version
	return m, nil
}

// Kinds of messages.
const (
	begin  = iota // all objects come
	put           // an object is there
	gone          // it is not any more
	synced        // they all have come
	stands        // the watch does
	upTo          // a version
	ended         // with err
)

// follow follows a source until the context ends.
func (s *Store) follow(ctx context.Context, of *source, out chan<- message) {
	say := func(m message) error {
		m.of = of
		select {
		case out <- m:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	version := ""
	change := func(kind int, raw json.RawMessage) error {
		m, err := of.message(kind, raw)
		if err != nil {
			return err
		}
		if err := say(m); err != nil {
			return err
		}
		if version != "" { // not before all have come
			version = m.version
		}
		return nil
	}
	h := client.Handler{
		Item: func(raw json.RawMessage) error { return change(put, raw) },
		Synced: func(at string) error {
			version = at
			return say(message{kind: synced, version: at})
		},
		Started:  func() error { return say(message{kind: stands}) },
		Bookmark: func(at string) error { version = at; return say(message{kind: upTo, version: at}) },
		Event: func(kind string, raw json.RawMessage) error {
			if kind == client.Deleted {
				return change(gone, raw)
			}
			return change(put, raw)
		},
	}
	failures := 0
	for {
		if version == "" && say(message{kind: begin}) != nil {
			return
		}
		start := time.Now()
		err := s.c.Follow(ctx, of.Resource, of.selection, version, h)
		if ctx.Err() != nil || say(message{kind: ended, err: err}) != nil {
			return
		}
		if client.IsGone(err) {
			h.Least = version
			s.o.Log.Info("changes were missed: reading everything anew", "resource", of.Plural, "because", err)
			version = ""
		}
		if time.Since(start) > maxBackoff {
			failures = 0
		}
		wait := asked(err, pause(failures))
		failures++
		switch {
		case errors.Is(err, client.ErrEnded):
			wait = pause(0)
		case client.IsGone(err): // the server answers; one that has started anew says so to all
			wait, failures = s.spread(), 0
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-of.wake:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// later is the later one of two versions.
func later(a, b string) string {
	if client.Later(b, a) {
		return b
	}
	return cmp.Or(a, b)
}
