// Package connect attaches running containers to networks of their host, and detaches
// them: what a person does, and the container's runtime does not know of.
package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/network"
)

// Config says what containers are connected to, and by what.
type Config struct {
	Networks   *network.Host
	PluginDirs []string  // where the CNI plugins are
	Stderr     io.Writer // of the plugins
}

// Options are what a person wants of the network for the container.
type Options struct {
	IPs     []netip.Addr // one of each family at most
	Aliases []string
	Ports   []attach.Port
	MAC     string
	// IfName is the interface's name in the container; empty: the next ethN that is free.
	IfName string
	// Links are containers that it is to find, each CONTAINER or CONTAINER:ALIAS. On a network
	// with names all find each other by these; another alias is known to this container alone.
	Links []string
	// Priority above 0 makes the network the container's way out, unless it is connected to
	// another one with a higher priority; below it is never. At 0 the network's default route
	// becomes that of a container without one.
	Priority int

	aliases []string // of Links, as args.cni.links
}

// Connect attaches a container to a network, as its next interface ethN that is free,
// and returns the record. The container is named by a name, an alias, its ID or the start
// of it, the ID of a process in it, or the path of its network namespace.
func Connect(ctx context.Context, c Config, o Options, network, word string) (*attach.Attachment, error) {
	a, err := c.connect(ctx, &o, network, word)
	if err != nil {
		return nil, fmt.Errorf("connect %s to network %s: %w", word, network, err)
	}
	return a, nil
}

func (c *Config) connect(ctx context.Context, o *Options, network, word string) (*attach.Attachment, error) {
	unlock, err := c.Networks.Dir.Lock(ctx) // nobody else takes the interface's name, or the network away
	if err != nil {
		return nil, err
	}
	defer unlock()
	n, err := c.Networks.Local(ctx)
	if err != nil {
		return nil, err
	}
	f, err := connectable(n, network, string(c.Networks.Dir))
	if err != nil {
		return nil, err
	}
	to, err := find(n.Records, word)
	if err != nil {
		return nil, err
	}
	if err := to.connectable(network); err != nil {
		return nil, err
	}
	if err := o.linked(n.On(network)); err != nil {
		return nil, err
	}
	name, err := to.ifName(o.IfName)
	if err != nil {
		return nil, err
	}
	k := attach.Key{Network: network, Container: to.id, IfName: name}
	if err := c.add(ctx, o, f, to, k); err != nil {
		return nil, err
	}
	if err := c.stillThere(ctx, to, k); err != nil {
		return nil, err
	}
	a, err := c.Networks.Store.Get(ctx, k)
	if err == nil && c.Networks.Warn != nil {
		if why := unnamed(a, to.records); why != nil {
			c.Networks.Warn(why)
		}
		if o.Priority > 0 && !link.Preferred(a) {
			c.Networks.Warn(fmt.Errorf("network %s has no default route for its containers: its priority changes nothing", network))
		}
	}
	return a, err
}

// stillThere undoes the connection if the container's runtime has ended the container
// meanwhile: the DEL that would have taken it away has been.
func (c *Config) stillThere(ctx context.Context, to *container, k attach.Key) error {
	if !slices.ContainsFunc(to.records, byRuntime) {
		return nil
	}
	all, err := inspect.Records(ctx, c.Networks.Store, c.Networks.Warn)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(a *attach.Attachment) bool { return a.Container == to.id && byRuntime(a) && !a.Deleting }) {
		return nil
	}
	return errors.Join(errors.New("the container has ended meanwhile"), c.Networks.Store.Disconnect(ctx, k))
}

func byRuntime(a *attach.Attachment) bool { return !a.Connected }
