// Package network is the networks of a host: the conflists in its folder, whoever wrote
// them, what the records of attachments say of them, and the networks that span hosts.
// It makes, removes and describes them.
package network

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Host says where a host's networks are.
type Host struct {
	Dir     conflist.Dir
	Store   *attach.Store
	DataDir string // where networks that span hosts are remembered
	// Overlay reads the store of networks that span hosts; nil: nobody has named one.
	Overlay func(context.Context) (*overlay.State, error)
	// Warn is told what keeps nobody from seeing the rest.
	Warn func(error)
	Now  func() time.Time
}

// Networks are all that a host knows, of both kinds.
type Networks struct {
	Files   []*conflist.File
	Records []*attach.Attachment
	Known   []attach.Network // of the records
	Overlay *overlay.State   // nil: no store is named, or it does not answer
	Unread  error            // files that say nothing

	host *Host
}

// All gathers them. What cannot be read, or a store that is away, is a warning.
func (h *Host) All(ctx context.Context) (*Networks, error) {
	n, err := h.Local(ctx)
	if err == nil && n.Unread != nil {
		h.Warn(n.Unread)
	}
	if err != nil || h.Overlay == nil {
		return n, err
	}
	if n.Overlay, err = h.Overlay(ctx); err != nil {
		h.Warn(fmt.Errorf("the networks that span hosts are not known: %w", err))
	}
	return n, nil
}

// Local are the networks of this host, and the overlay's whose conflist is here.
func (h *Host) Local(ctx context.Context) (*Networks, error) {
	n := &Networks{host: h}
	n.Files, n.Unread = h.Dir.List()
	var err error
	if n.Records, err = inspect.Records(ctx, h.Store, h.Warn); err != nil {
		return nil, err
	}
	err = h.Store.View(ctx, func(tx *attach.Tx) error {
		n.Known, err = tx.Networks()
		return err
	})
	return n, err
}

// On are the attachments to a network, those of a chain's parts too.
func (n *Networks) On(network string) []*attach.Attachment {
	var all []*attach.Attachment
	for _, a := range n.Records {
		if a.Network == network {
			all = append(all, a)
		}
	}
	return all
}

// Remembers tells whether the host has had containers on a network, or has some of it still,
// whose conflist may be gone.
func (n *Networks) Remembers(network string) bool {
	_, err := overlay.ReadLocal(n.host.DataDir, network)
	return err == nil || len(n.On(network)) > 0 ||
		slices.ContainsFunc(n.Known, func(k attach.Network) bool { return k.Name == network })
}

// containersOf are the containers of attachments as people call them, each once.
func containersOf(all []*attach.Attachment) []string {
	var ids, called []string
	for _, a := range all {
		if slices.Contains(ids, a.Container) {
			continue
		}
		ids = append(ids, a.Container)
		name := names.Called(a)
		if !host.IsAlive(a) {
			name += " (whose namespace is gone: 'berth gc' removes what is left of it)"
		}
		called = append(called, name)
	}
	slices.Sort(called)
	return called
}
