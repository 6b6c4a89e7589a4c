package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// connection is what a person wants of a network for a container.
type connection struct {
	ips     []netip.Addr
	aliases []string
	ports   []attach.Port
	mac     string
	shape   shape
}

const whichContainer = `The container is named by its name, one of its aliases, its ID or the start of it, the ID
of a process in it, or the path of its network namespace.`

func (p *program) networkConnectCommand() *cobra.Command {
	var w connection
	c := &cobra.Command{
		Use:   "connect [flags] NETWORK CONTAINER",
		Short: "Attach a running container to another network",
		Long: `Attach a running container to another network of this host, as the next interface ethN
that is free. The default route that it has stays; one that has none, as it is on
internal networks only, gets the network's.

` + whichContainer + `

Its runtime does not know of the connection. It ends with 'berth network disconnect',
or with the container: the runtime's DEL of the last network that the runtime attached
takes it away. Where no runtime has attached anything (a namespace given by its path or
by a process), nobody but 'disconnect' does.

Refused are a container that is on the network, one without a network of its own (the
modes host, none and container-share), and a network with plugins of others in its
chain, since nobody would undo what those make.

` + exitCodes,
		Example: `  berth network connect my-bridge web
  berth network connect --ip 172.18.0.9 --alias db --publish 127.0.0.1:5432:5432 back 4f5e6d
  berth network connect my-bridge /run/netns/blue`,
		Args: arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.connect(c.Context(), &w, args[0], args[1])
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addFlag(f, addresses(&w.ips), "ip", "the address it is to have, again for the other family")
	addFlag(f, texts(&w.aliases, "name"), "alias", "another name that it has on the network, again for more")
	addShort(f, publish(&w.ports), "publish", "p", "a port of this host that leads to one of the container, again for more")
	addFlag(f, text(&w.mac, "mac", "", nil), "mac", "the MAC that it is to have")
	addFlag(f, w.shape.value(), "format", "how to write")
	return c
}

// connect attaches the container, and shows what it was given.
func (p *program) connect(ctx context.Context, w *connection, network, word string) error {
	unlock, err := p.netDir().Lock(ctx) // nobody else takes the interface's name, or the network away
	if err != nil {
		return err
	}
	defer unlock()
	n, err := p.hostNetworks(ctx)
	if err != nil {
		return err
	}
	f, err := n.connectable(network, p.settings.netDir)
	if err != nil {
		return fmt.Errorf("connect %s to network %s: %w", word, network, err)
	}
	c, err := meantContainer(n.records, word)
	if err == nil {
		err = c.connectable(network)
	}
	var name string
	if err == nil {
		name, err = c.freeName()
	}
	if err != nil {
		return fmt.Errorf("connect %s to network %s: %w", word, network, err)
	}
	k := attach.Key{Network: network, Container: c.id, IfName: name}
	if err := p.runAdd(ctx, w, f, c, k); err != nil {
		return fmt.Errorf("connect %s to network %s: %w", word, network, err)
	}
	if err := p.stillThere(ctx, c, k); err != nil {
		return fmt.Errorf("connect %s to network %s: %w", word, network, err)
	}
	a, err := p.hostStore().Get(ctx, k)
	if err != nil {
		return err
	}
	views := inspect.Attachments([]*attach.Attachment{a}, func(*inspect.Attachment) bool { return true }, nil, p.now())
	return writeShape(p.out, &w.shape, views, func(out io.Writer) {
		row(out, "CONTAINER", "NETWORK", "INTERFACE", "ADDRESSES", "PORTS", "NAMES")
		cells := cells(&views[0], false)
		row(out, cells[:6]...)
	})
}

// connectable is the network's file, if containers can be connected to it.
func (n *networks) connectable(network, dir string) (*conflist.File, error) {
	f := conflist.Find(n.files, network)
	switch {
	case f == nil && network == conflist.Host:
		return nil, errHostMode
	case f == nil && network == conflist.None:
		return nil, errNoneMode
	case f == nil:
		err := fmt.Errorf("there is none of that name in %s; one that spans hosts gets there by 'berth network conflist'", dir)
		return nil, errors.Join(err, n.unread)
	}
	switch foreign := f.Foreign(); {
	case len(foreign) > 0:
		return nil, fmt.Errorf("its chain has the plugins %s: nobody would undo what those make when the container ends", strings.Join(foreign, ", "))
	case f.Driver() == conflist.Host:
		return nil, errHostMode
	case f.Driver() == conflist.None:
		return nil, errNoneMode
	case f.Driver() == conflist.Share:
		return nil, errSharedMode
	}
	return f, nil
}

// Docker refuses these, too.
var (
	errHostMode   = errors.New("a container with the host's network has no other, and none becomes one")
	errNoneMode   = errors.New("a container of the network none is to have no other")
	errSharedMode = errors.New("a container that shares the network of another one has what that one has: connect that one")
)

// connectable tells why the container cannot be connected to a network.
func (c *container) connectable(network string) error {
	for _, a := range c.records {
		switch {
		case a.Network == network && !a.Going:
			return fmt.Errorf("is connected already, as %s", a.IfName)
		case a.Network == network:
			return fmt.Errorf("is being disconnected: 'berth network disconnect %s %s' goes on with it", network, c.id)
		case a.Plugin == conflist.Host:
			return errHostMode
		case a.Plugin == conflist.None:
			return errNoneMode
		case a.Plugin == conflist.Share:
			return errSharedMode
		}
	}
	return nil
}

// freeName is the first ethN that the container does not have.
func (c *container) freeName() (string, error) {
	ns, err := link.OpenNetns(c.netns)
	if err != nil {
		return "", err
	}
	defer ns.Close()
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if slices.ContainsFunc(c.records, func(a *attach.Attachment) bool { return a.IfName == name }) {
			continue
		}
		_, _, err := ns.Inspect(name)
		if errors.Is(err, unix.ENODEV) {
			return name, nil
		}
		if err != nil {
			return "", fmt.Errorf("look for %s: %w", name, err)
		}
	}
}

// stillThere undoes the connection if the container's runtime has ended the container
// meanwhile: the DEL that would have taken it away has been.
func (p *program) stillThere(ctx context.Context, c *container, k attach.Key) error {
	if !slices.ContainsFunc(c.records, byRuntime) {
		return nil
	}
	all, err := p.records(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(a *attach.Attachment) bool { return a.Container == c.id && byRuntime(a) && !a.Going }) {
		return nil
	}
	return errors.Join(errors.New("the container has ended meanwhile"), p.hostStore().Disconnect(ctx, k))
}

func byRuntime(a *attach.Attachment) bool { return !a.Connected }
