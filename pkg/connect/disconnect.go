package connect

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/inspect"
)

// Disconnect detaches a container from a network. With force it is no error when there
// is nothing to detach.
func Disconnect(ctx context.Context, c Config, network, word string, force bool) error {
	if err := c.disconnect(ctx, network, word, force); err != nil {
		return fmt.Errorf("disconnect %s from network %s: %w", word, network, err)
	}
	return nil
}

func (c *Config) disconnect(ctx context.Context, network, word string, force bool) error {
	records, err := inspect.Records(ctx, c.Networks.Store, c.Networks.Warn)
	if err != nil {
		return err
	}
	from, err := find(records, word)
	if err != nil {
		if force {
			c.Networks.Warn(err)
			return nil
		}
		return err
	}
	var errs []error
	found := false
	for _, role := range []attach.Role{attach.Chained, attach.Main} { // as a DEL
		for _, a := range from.records {
			if a.Network != network || a.Role != role {
				continue
			}
			found = true
			errs = append(errs, c.disconnectOne(ctx, a))
		}
	}
	if !found && !force {
		return errors.New("is not connected to it")
	}
	return errors.Join(errs...)
}

func (c *Config) disconnectOne(ctx context.Context, a *attach.Attachment) error {
	switch a.Plugin {
	case conflist.Host:
		return errHostMode
	case conflist.Share:
		return errSharedMode
	}
	if err := c.Networks.Store.Disconnect(ctx, a.Key); err != nil && !errors.Is(err, attach.ErrNotFound) {
		return err
	}
	if !a.Connected && a.Role == attach.Main {
		c.Networks.Warn(fmt.Errorf("the container's runtime made %s of it and is not told: it goes on to show it", a.IfName))
	}
	return nil
}
