package agent

import (
	"errors"
	"io/fs"
	"time"

	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// What the store said last outlives a reboot, so that a host that boots while the
// store is away reaches its peers.

// saveShare is the part of the time that writing it down may take, one in so many.
const saveShare = 100

type savedState struct {
	dirty bool
	next  time.Time
	timed bool // it will be written then
}

// remember starts from what the store said before, and from the host's own files.
func (a *Agent) remember() {
	err := a.replica.Load(a.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.Log.Warn("what the store said before is not readable; the store will say it again", "error", err)
	}
	a.known = err == nil
	locals, err := overlay.ListLocal(a.DataDir)
	a.rebooted = true
	if err != nil {
		a.Log.Warn("read the host's networks", "error", err)
	}
	for _, l := range locals {
		n := newNetwork(l)
		n.gone = l.Refused == removedFromStore
		a.nets[l.Network.Name] = n
		if there, err := link.Exists(l.Network.Device()); there || err != nil {
			a.rebooted = false
		}
		if _, known := a.state.Networks[l.Network.Name]; !known && !n.gone {
			a.state.Apply(overlay.Update{Networks: []overlay.Network{l.Network}})
		}
	}
	if len(a.state.Networks) > 0 {
		a.reconcile()
	}
}

// save writes the state down, now and then; at the end at once.
func (a *Agent) save(now bool) {
	if !a.saved.dirty || !a.fresh {
		return
	}
	if wait := time.Until(a.saved.next); wait > 0 && !now {
		if !a.saved.timed {
			a.saved.timed = true
			time.AfterFunc(wait, func() { a.do(a.ctx, func() { a.save(true) }) })
		}
		return
	}
	start := time.Now()
	if err := a.replica.Write(a.DataDir); err != nil {
		a.Log.Warn("write down what the store said", "error", err)
	}
	a.saved = savedState{next: time.Now().Add(max(time.Second, saveShare*time.Since(start)))}
}

// matters tells whether an update has something that is worth writing down: not that
// a node has been seen again.
func (a *Agent) matters(u overlay.Update) bool {
	if u.Full || len(u.Networks)+len(u.Blocks)+len(u.Removed)+len(u.GoneNetworks)+len(u.GoneNodes)+len(u.GoneBlocks) > 0 {
		return true
	}
	for _, n := range u.Nodes {
		if was := a.state.Nodes[n.Name]; was.Address != n.Address || was.MTU != n.MTU || was.Token != n.Token {
			return true
		}
	}
	return false
}
