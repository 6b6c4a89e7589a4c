package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

type stateFile struct {
	Networks []overlay.Network `json:"networks"`
	Nodes    []overlay.Node    `json:"nodes"`
	Blocks   []overlay.Block   `json:"blocks"`
}

func statePath(dataDir string) string { return filepath.Join(dataDir, "state.json") }

// Saved is what the store said last, as an agent of this host has written it down, of
// it what is valid. fs.ErrNotExist when none has.
func Saved(dataDir string) (u overlay.Update, err error) {
	var f stateFile
	path := statePath(dataDir)
	data, err := os.ReadFile(path)
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return u, fmt.Errorf("decode %s: %w", path, err)
	}
	for _, n := range f.Networks {
		if n.Validate() == nil {
			u.Networks = append(u.Networks, n)
		}
	}
	for _, n := range f.Nodes {
		if n.Validate() == nil {
			u.Nodes = append(u.Nodes, n)
		}
	}
	for _, b := range f.Blocks {
		if b.Validate() == nil {
			u.Blocks = append(u.Blocks, b)
		}
	}
	return u, nil
}

// remember starts from what the store said before, and from the host's own files.
func (a *Agent) remember() {
	u, err := Saved(a.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.Log.Warn("what the store said before is not readable; the store will say it again", "error", err)
	}
	u.Full = true
	a.known = err == nil
	a.state.Apply(u)
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
	f := stateFile{
		slices.Collect(maps.Values(a.state.Networks)), slices.Collect(maps.Values(a.state.Nodes)), slices.Collect(maps.Values(a.state.Blocks)),
	}
	if err := writeState(statePath(a.DataDir), f); err != nil {
		a.Log.Warn("write down what the store said", "error", err)
	}
	a.saved = savedState{next: time.Now().Add(max(time.Second, saveShare*time.Since(start)))}
}

// matters tells whether an update has something that is worth writing down: not that
// a node has been seen again.
func (a *Agent) matters(u overlay.Update) bool {
	if u.Full || len(u.Networks)+len(u.Blocks)+len(u.GoneNetworks)+len(u.GoneNodes)+len(u.GoneBlocks) > 0 {
		return true
	}
	for _, n := range u.Nodes {
		if was := a.state.Nodes[n.Name]; was.Address != n.Address || was.MTU != n.MTU || was.Token != n.Token {
			return true
		}
	}
	return false
}

// writeState replaces the file. One that a crash cut off is only a slower start.
func writeState(path string, f stateFile) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
