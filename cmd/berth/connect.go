package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/connect"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// connection is what a person wants of a network for a container.
type connection struct {
	connect.Options
	shape shape
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
internal networks only, gets the network's. With --gw-priority above 0 it goes out by
this network, by routes to both halves of all addresses, which go when it is
disconnected; the highest priority wins, and of the same the first.

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
	addFlag(f, addresses(&w.IPs), "ip", "the address it is to have, again for the other family")
	addFlag(f, texts(&w.Aliases, "name"), "alias", "another name that it has on the network, again for more")
	addFlag(f, addresses(&w.IPs), "ip6", "the same, of IPv6")
	addFlag(f, texts(&w.Links, "container:alias"), "link", "a container that it is to find, also by an alias that this one alone knows")
	addFlag(f, number(&w.Priority, "number", math.MinInt32, link.MaxGatewayPriority), "gw-priority", "above 0: its way out, unless another network has a higher one; below: never")
	addFlag(f, endpointOption(&w.IfName), "driver-opt", "an option of the endpoint: "+conflist.IfNameOption+"=NAME names the interface")
	addFlag(f, refusing(noLinkLocal), "link-local-ip", "refused: "+noLinkLocal)
	f.Lookup("link-local-ip").Hidden = true
	addShort(f, publish(&w.Ports), "publish", "p", "a port of this host that leads to one of the container, again for more")
	addFlag(f, text(&w.MAC, "mac", "", nil), "mac", "the MAC that it is to have")
	addFlag(f, w.shape.value(), "format", "how to write")
	return c
}

const noLinkLocal = "the kernel gives interfaces their link-local addresses"

// endpointOption is Docker's --driver-opt, of which one is known here.
func endpointOption(ifName *string) pflag.Value {
	return &value{kind: "key=value", get: func() string { return "" }, set: func(s string) error {
		key, name, _ := strings.Cut(s, "=")
		if key != conflist.IfNameOption || name == "" {
			return fmt.Errorf("want %s=NAME, the one that there is", conflist.IfNameOption)
		}
		*ifName = name
		return nil
	}}
}

// connect attaches the container, and shows what it was given.
func (p *program) connect(ctx context.Context, w *connection, network, word string) error {
	network, err := p.networkName(ctx, network)
	if err != nil {
		return err
	}
	a, err := connect.Connect(ctx, p.connectConfig(), w.Options, network, word)
	if err != nil {
		return err
	}
	views := inspect.Attachments([]*attach.Attachment{a}, func(*inspect.Attachment) bool { return true }, nil, p.now())
	return writeShape(p.out, &w.shape, views, func(out io.Writer) {
		row(out, "CONTAINER", "NETWORK", "INTERFACE", "ADDRESSES", "PORTS", "NAMES")
		row(out, cells(&views[0], false)[:6]...)
	})
}

func (p *program) connectConfig() connect.Config {
	return connect.Config{Networks: p.networks(), PluginDirs: filepath.SplitList(p.settings.binDir), Stderr: p.err}
}

// publish reads [ADDRESS:]PORT:PORT[/PROTOCOL], a port of the host and one of the
// container, or as many of both: 8000-8002:80-82.
func publish(to *[]attach.Port) pflag.Value {
	return &value{kind: "host:container/protocol", get: func() string { return "" }, set: func(s string) error {
		ports, err := connect.ParsePorts(s)
		if err != nil {
			return fmt.Errorf("%w: want [ADDRESS:]PORT:PORT[/tcp|udp|sctp], such as 8080:80, 127.0.0.1:5353:53/udp, [fd00::1]:8000-8002:80-82", err)
		}
		*to = append(*to, ports...)
		return nil
	}}
}
