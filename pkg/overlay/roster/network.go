package roster

import (
	"context"
	"errors"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// network is one whose names are followed.
type network struct {
	name   string
	cancel context.CancelFunc
	idle   time.Time // since when nobody here asks for its names; zero: somebody does
	away   bool      // its names are as they were
	nodes  map[string]map[overlay.NameKey]*known
	stale  map[overlay.NameKey]time.Time // since when the store has lost them
}

// known is a name of another host.
type known struct {
	overlay.Name
	shown bool // to the containers of this host
}

// follow follows a network's names, if that is not done.
func (r *Roster) follow(name string) {
	if n := r.networks[name]; n != nil {
		n.idle = time.Time{}
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	n := &network{name: name, cancel: cancel, nodes: map[string]map[overlay.NameKey]*known{}, stale: map[overlay.NameKey]time.Time{}}
	r.networks[name] = n
	r.workers.Go(func() {
		for ctx.Err() == nil {
			err := r.Names.WatchNames(ctx, name, func(u overlay.Update) { r.take(n, u) })
			if ctx.Err() == nil {
				r.take(n, overlay.Update{Err: errors.Join(err, errEnded)})
				rest(ctx, nil, backoff(1)+time.Second)
			}
		}
	})
}

var errEnded = errors.New("the watch has ended")

// forgetStale forgets names that the store has lost and that nobody has said again.
func (r *Roster) forgetStale(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.networks {
		for k, since := range n.stale {
			if now.Sub(since) >= linger {
				r.forget(n, k)
			}
		}
	}
}

// leaveIdle stops following networks without containers here, and forgets their names.
func (r *Roster) leaveIdle(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, n := range r.networks {
		switch {
		case len(r.asking[name]) > 0:
		case n.idle.IsZero():
			n.idle = now
		case now.Sub(n.idle) >= linger:
			n.cancel()
			for _, all := range n.nodes {
				for k := range all {
					r.forget(n, k)
				}
			}
			delete(r.networks, name)
			delete(r.asking, name)
		}
	}
}

// take takes what the store says of a network's names.
func (r *Roster) take(n *network, u overlay.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.networks[n.name] != n {
		return
	}
	if u.Err != nil {
		if !n.away {
			r.Log.Warn("names of other hosts stay as they were", "network", n.name, "error", u.Err)
		}
		n.away = true
		return
	}
	if n.away {
		n.away = false
		r.Log.Info("names of other hosts are followed again", "network", n.name)
		signal(r.again)
	}
	for _, b := range u.Bad {
		r.Log.Warn("the store holds a name that nobody can use", "key", b.Key, "error", b.Err)
	}
	r.compare(n.name, u.Full, u.Names, u.GoneNames)
	gone := u.GoneNames
	if u.Full {
		gone = n.missing(u.Names)
	}
	for _, k := range gone {
		if u.Broken != nil { // its node has yet to say it again
			n.stale[k] = time.Now()
			continue
		}
		r.forget(n, k)
	}
	for _, name := range u.Names {
		if name.Node != r.Node && name.Network == n.name {
			r.learnName(n, name)
		}
	}
}

// missing is what is known and not among the names.
func (n *network) missing(all []overlay.Name) (gone []overlay.NameKey) {
	there := make(map[overlay.NameKey]bool, len(all))
	for _, name := range all {
		there[name.NameKey] = true
	}
	for _, ours := range n.nodes {
		for k := range ours {
			if !there[k] {
				gone = append(gone, k)
			}
		}
	}
	return gone
}

func (r *Roster) learnName(n *network, name overlay.Name) {
	all := n.nodes[name.Node]
	if all == nil {
		all = map[overlay.NameKey]*known{}
		n.nodes[name.Node] = all
	}
	delete(n.stale, name.NameKey)
	old := all[name.NameKey]
	if old != nil && old.Same(&name) {
		return
	}
	k := &known{Name: name, shown: old != nil && old.shown}
	all[name.NameKey] = k
	delete(r.refused, name.NameKey)
	if k.shown { // what it was called before may be all that it may be called
		r.hide(k)
	}
	r.show(k)
}

func (r *Roster) forget(n *network, key overlay.NameKey) {
	all := n.nodes[key.Node]
	if k := all[key]; k != nil && k.shown {
		r.hide(k)
	}
	if delete(all, key); len(all) == 0 {
		delete(n.nodes, key.Node)
	}
	delete(r.refused, key)
	delete(n.stale, key)
}

// show shows a name to the containers of this host, if its node may give it.
func (r *Roster) show(k *known) {
	err := r.state.MayName(&k.Name)
	switch {
	case err == nil && !k.shown:
		r.Directory.PutRemote(k.Node, names.Entry{Key: attachKey(k.NameKey), Names: k.Names, Addresses: k.Addresses})
		k.shown = true
	case err != nil && k.shown:
		r.hide(k)
	}
	r.refuse(k.NameKey, err)
}

func (r *Roster) hide(k *known) {
	r.Directory.DeleteRemote(k.Node, attachKey(k.NameKey))
	k.shown = false
}

func attachKey(k overlay.NameKey) attach.Key {
	return attach.Key{Network: k.Network, Container: k.Container, IfName: k.IfName}
}
