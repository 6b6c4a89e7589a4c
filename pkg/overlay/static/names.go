package static

import (
	"context"

	"github.com/berth-cni/berth/pkg/overlay"
)

var _ overlay.Roster = (*Store)(nil)

// PublishNames does nothing: the hosts of a file do not tell each other anything.
func (s *Store) PublishNames(ctx context.Context, _ []overlay.Name, _ []overlay.NameKey) error {
	return ctx.Err()
}

// WatchNames says that there are no names of other hosts, and then nothing.
func (s *Store) WatchNames(ctx context.Context, network string, fn func(overlay.Update)) error {
	s.log.Info("containers of other hosts have no names here: the store is a file", "network", network)
	fn(overlay.Update{Full: true})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errClosed
	}
}
