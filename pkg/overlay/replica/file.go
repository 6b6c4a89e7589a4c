package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/berth-cni/berth/pkg/overlay"
)

// file is what outlives a reboot.
type file struct {
	Networks []overlay.Network `json:"networks"`
	Nodes    []overlay.Node    `json:"nodes"`
	Blocks   []overlay.Block   `json:"blocks"`
	Removed  []overlay.Removal `json:"removed,omitempty"`
	History  overlay.History   `json:"history,omitzero"`
	Broken   *Broken           `json:"broken,omitempty"`
}

func path(dataDir string) string { return filepath.Join(dataDir, "state.json") }

func read(dataDir string) (u overlay.Update, broken *Broken, err error) {
	var f file
	data, err := os.ReadFile(path(dataDir))
	if err != nil {
		return u, nil, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return u, nil, fmt.Errorf("decode %s: %w", path(dataDir), err)
	}
	u.Networks = valid(f.Networks, (*overlay.Network).Validate)
	u.Nodes = valid(f.Nodes, (*overlay.Node).Validate)
	u.Blocks = valid(f.Blocks, (*overlay.Block).Validate)
	u.Removed = valid(f.Removed, (*overlay.Removal).Validate)
	u.History = f.History
	return u, f.Broken, nil
}

func valid[T any](all []T, check func(*T) error) []T {
	return slices.DeleteFunc(all, func(v T) bool { return check(&v) != nil })
}

// Read is what an agent of this host has written down, of it what is valid.
// fs.ErrNotExist when none has.
func Read(dataDir string) (overlay.Update, error) {
	u, _, err := read(dataDir)
	return u, err
}

// Remembered is all that this host remembers of the store: what an agent has written
// down, and the networks that the host has.
func Remembered(dataDir string) (*overlay.State, error) {
	u, err := Read(dataDir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	s := overlay.NewState()
	s.Apply(u)
	id, err := overlay.ReadIdentity(dataDir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	locals, err := overlay.ListLocal(dataDir)
	for _, l := range locals {
		if _, known := s.Networks[l.Network.Name]; !known && l.Network.Validate() == nil {
			s.Apply(overlay.Update{Networks: []overlay.Network{l.Network}})
		}
		for _, b := range l.Blocks { // the host's own
			s.Apply(overlay.Update{Blocks: []overlay.Block{{Network: l.Network.Name, Prefix: b, Node: id.Node, Token: id.Token}}})
		}
	}
	return s, err
}

// Load starts from what an agent before has written down: fs.ErrNotExist when none has.
func (r *Replica) Load(dataDir string) error {
	u, broken, err := read(dataDir)
	u.Full = true
	r.State.Apply(u)
	r.Broken, r.history = broken, u.History
	for _, x := range u.Removed {
		r.removed[x.Key()] = x
	}
	return err
}

// Write replaces the file. One that a crash cut off is only a slower start.
func (r *Replica) Write(dataDir string) error {
	s := r.State
	data, err := json.Marshal(file{slices.Collect(maps.Values(s.Networks)), slices.Collect(maps.Values(s.Nodes)), slices.Collect(maps.Values(s.Blocks)),
		slices.Collect(maps.Values(r.removed)), r.history, r.Broken})
	if err != nil {
		return err
	}
	tmp := path(dataDir) + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path(dataDir))
}
