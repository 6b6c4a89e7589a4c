// Package inspect is everything that a host knows of containers and networks, as data
// that can be written as JSON.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Config says where to look.
type Config struct {
	Store   *attach.Store
	DataDir string // where overlay networks are remembered
	Now     time.Time
	// Warn is told what keeps nobody from seeing the rest.
	Warn func(error)
}

// Host is what is looked at once.
type Host struct {
	Records []*attach.Attachment

	now      time.Time
	known    []attach.Network
	locals   []*overlay.Local
	links    host.Links
	counters map[string]Counters
}

// Look looks at the host.
func Look(ctx context.Context, c Config) (*Host, error) {
	h := &Host{now: c.Now}
	var err error
	if h.Records, err = Records(ctx, c.Store, c.Warn); err != nil {
		return nil, err
	}
	err = c.Store.View(ctx, func(tx *attach.Tx) (err error) {
		h.known, err = tx.Networks()
		return err
	})
	if err != nil {
		return nil, err
	}
	if h.locals, err = overlay.ListLocal(c.DataDir); err != nil {
		c.Warn(err)
	}
	if h.links, err = host.ListLinks(); err != nil {
		return nil, err
	}
	h.counters, err = ReadCounters()
	return h, err
}

// Records are all attachments of this host. Those that cannot be read are a warning:
// they keep nobody from seeing the others.
func Records(ctx context.Context, store *attach.Store, warn func(error)) ([]*attach.Attachment, error) {
	all, err := store.List(ctx, "")
	if errors.Is(err, attach.ErrUnreadable) {
		warn(err)
		err = nil
	}
	return all, err
}

// Find returns the ID of the container that a word names: its ID, else its
// name, else one of its names, else the start of its ID. Empty when there is none, an
// error when there are several.
func Find(all []*attach.Attachment, word string) (string, error) {
	for _, is := range []func(*attach.Attachment) bool{
		func(a *attach.Attachment) bool { return a.Container == word },
		func(a *attach.Attachment) bool {
			return names.Called(a) == word || a.Args["K8S_POD_NAMESPACE"] != "" && a.Args["K8S_POD_NAMESPACE"]+"/"+a.Args["K8S_POD_NAME"] == word
		},
		func(a *attach.Attachment) bool { return slices.Contains(names.Registered(a), strings.ToLower(word)) },
		func(a *attach.Attachment) bool { return attach.IDStarts(a.Container, word) },
	} {
		var ids []string
		for _, a := range all {
			if is(a) && !slices.Contains(ids, a.Container) {
				ids = append(ids, a.Container)
			}
		}
		switch {
		case len(ids) > 1:
			return "", fmt.Errorf("%s: %d containers have it: %s", host.Printable(word), len(ids), host.Some(ids))
		case len(ids) == 1:
			return ids[0], nil
		}
	}
	return "", nil
}
