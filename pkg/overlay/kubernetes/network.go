package kubernetes

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// lockName is the lease that who makes a network has meanwhile: the API has no transaction
// over what there is. A person who writes networks by other means does without it; those
// that are in each other's way then are told apart by every host ([overlay.State.Conflicts]).
const lockName = "berth-networks"

// lockTime is how long somebody may have the lock, and not come back.
const lockTime = 15 * time.Second

// locked runs fn alone, of all that make networks.
func (s *Store) locked(ctx context.Context, fn func(context.Context) error) error {
	l, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("take the lock of those who make networks, lease %s/%s: %w", s.o.Namespace, lockName, err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTime-5*time.Second)
	defer cancel()
	err = fn(ctx)
	l.Spec.Holder = ""
	if given := s.putLease(context.WithoutCancel(ctx), l); given != nil {
		s.o.Log.Info("the lock of those who make networks runs out by itself", "error", given)
	}
	return err
}

func (s *Store) lock(ctx context.Context) (*lease, error) {
	me := rand.Text()
	for {
		l := s.lease(lockName, me)
		l.Spec.Seconds = int(lockTime / time.Second)
		var there lease
		err := s.c.Get(ctx, s.leases.Path(lockName), &there)
		free := client.IsNotFound(err) || err == nil && (there.Spec.Holder == "" || s.c.Now().After(there.ends()))
		if free {
			l.Metadata.UID, l.Metadata.Version = there.Metadata.UID, there.Metadata.Version
			err = raced(s.putLease(ctx, &l))
			if err == nil {
				return &l, nil
			}
		}
		if err != nil && err != errRaced {
			return nil, err
		}
		if err := sleep(ctx, pause(0)/4); err != nil {
			return nil, err
		}
	}
}

// CreateNetwork is of [overlay.Admin]. The defaults are filled in, and the VNI is the
// lowest free one from [overlay.FirstVNI] unless it is given; so is the port of an
// encrypted network, from [overlay.FirstListen]. The ID is the object's UID.
func (s *Store) CreateNetwork(ctx context.Context, n overlay.Network) (overlay.Network, error) {
	n.SetDefaults()
	made := n
	err := validName(n.Name)
	if err != nil {
		err = fmt.Errorf("name: %q: %w", n.Name, err)
	} else {
		ctx, cancel := s.bound(ctx)
		defer cancel()
		err = s.locked(ctx, func(ctx context.Context) error { return s.create(ctx, &made) })
	}
	if err != nil {
		return n, fmt.Errorf("create network %q: %w", n.Name, err)
	}
	return made, nil
}

// create decides from what there is. The lock is held.
func (s *Store) create(ctx context.Context, n *overlay.Network) error {
	all, err := s.listNetworks(ctx)
	if err != nil {
		return err
	}
	n.Choose(all, nil)
	if err := n.Validate(); err != nil {
		return err
	}
	for _, o := range all {
		if err := n.Conflict(&o); err != nil {
			return err
		}
	}
	o := s.networkObject(n)
	err = s.c.Create(ctx, s.networks.Path(), o, &o)
	if client.IsExists(err) {
		return fmt.Errorf("BerthNetwork %s exists, and nobody can use what it says: 'berth network rm --force %s' removes it", n.Name, n.Name)
	}
	if err != nil {
		return err
	}
	*n, err = o.network()
	return err
}

// listNetworks returns those that somebody can use: others are in nobody's way, but for
// their names.
func (s *Store) listNetworks(ctx context.Context) (all []overlay.Network, err error) {
	_, err = s.c.List(ctx, s.networks, client.Selection{}, func(raw json.RawMessage) error {
		if o, err := decode[networkObject](raw); err == nil {
			if n, err := o.network(); err == nil {
				all = append(all, n)
			}
		}
		return nil
	})
	return all, err
}

// RemoveNetwork is of [overlay.Admin]. The order is written first: who sees the network go
// knows whose it was.
func (s *Store) RemoveNetwork(ctx context.Context, name string, force bool) error {
	err := validName(name)
	if err == nil {
		ctx, cancel := s.bound(ctx)
		defer cancel()
		err = again(ctx, func() error { return s.removeNetwork(ctx, name, force) })
	}
	if _, used := err.(*overlay.InUseError); err != nil && !used {
		return fmt.Errorf("remove network %q: %w", name, err)
	}
	if err == nil {
		s.forgetRemovals(ctx)
	}
	return err
}

func (s *Store) removeNetwork(ctx context.Context, name string, force bool) error {
	var o networkObject
	err := s.c.Get(ctx, s.networks.Path(name), &o)
	if client.IsNotFound(err) {
		return overlay.ErrNotFound
	}
	if err != nil {
		return err
	}
	if !force {
		blocks, err := s.blocksOf(ctx, "spec.network="+name)
		if err != nil {
			return err
		}
		by := map[string]bool{}
		for _, b := range blocks {
			if b.Status.Used {
				by[b.Spec.Node] = true
			}
		}
		if len(by) > 0 {
			return &overlay.InUseError{What: fmt.Sprintf("network %q", name), By: slices.Sorted(maps.Keys(by))}
		}
	}
	n, _ := o.network() // what nobody can use has an ID, too
	if err := s.order(ctx, overlay.Removal{Network: name, ID: n.ID, Forced: force}); err != nil {
		return err
	}
	return s.dropNetwork(ctx, name, o.Metadata.UID)
}

// dropNetwork deletes a network's object, and the blocks behind it.
func (s *Store) dropNetwork(ctx context.Context, name, uid string) error {
	if err := s.c.Delete(ctx, s.networks.Path(name), uid, ""); err != nil && !client.IsNotFound(err) {
		return raced(err)
	}
	blocks, err := s.blocksOf(ctx, "spec.network="+name)
	if err != nil {
		return err
	}
	return s.dropBlocks(ctx, blocks)
}

// blocksOf are the blocks of a node or a network.
func (s *Store) blocksOf(ctx context.Context, fields string) (all []blockObject, err error) {
	_, err = s.c.List(ctx, s.blocks, client.Selection{Fields: fields}, func(raw json.RawMessage) error {
		if o, err := decode[blockObject](raw); err == nil {
			all = append(all, o)
		}
		return nil
	})
	return all, err
}

// atOnce is how many requests are under way at a time.
const atOnce = 8

// dropBlocks deletes blocks, those that are still what they were.
func (s *Store) dropBlocks(ctx context.Context, all []blockObject) error {
	return each(all, func(o blockObject) error {
		err := s.c.Delete(ctx, s.blocks.Path(o.Metadata.Name), o.Metadata.UID, "")
		if client.IsNotFound(err) || client.IsConflict(err) {
			return nil
		}
		return err
	})
}

// each calls fn with each of all, some at a time, and returns the first error.
func each[T any](all []T, fn func(T) error) (err error) {
	var mu sync.Mutex
	var work sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, x := range all {
		slots <- struct{}{}
		work.Go(func() {
			failed := fn(x)
			mu.Lock()
			if err == nil {
				err = failed
			}
			mu.Unlock()
			<-slots
		})
	}
	work.Wait()
	return err
}
