// Ipvlan gives a container an interface on the network that an interface of the host, the
// master, is on: addresses of its own, as if it were a machine there, and the master's MAC,
// for networks that take no other. Host and container cannot talk.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
)

var mode = cni.Mode{Name: "ipvlan", Config: func() cni.Config { return &config{} }}

func main() { cni.Main(mode) }

// Replaces implements [cni.Replacer].
func (c *config) Replaces() link.ForeignKind {
	return link.ForeignKind{Child: "ipvlan", On: c.Master, Inside: c.LinkInContainer}
}

// Plan implements [cni.Config]. Where it is the host that routes (l3, l3s), a route without
// a gateway of its own is by the interface.
func (c *config) Plan(r *cni.Request) ([]attach.Step, error) {
	c.validate(r)
	r.IgnorePorts("an ipvlan container's ports are on its own address")
	m, err := c.FindMaster(r)
	if err != nil {
		return nil, err
	}
	routes := ipvlan.Routes(c.Mode)
	steps := r.Addressed(r.IPAM, &link.Gateway{NoDefault: r.KeepsDefaultRoute(), Priority: r.GatewayPriority(false), MAC: m.MAC, Isolated4: routes, Isolated6: routes},
		m.Subinterface(true),
		&ipvlan.Interface{Master: m.Name, Mode: c.Mode, Flag: c.Flag, MTU: c.MTU,
			Inside: c.LinkInContainer, DAD: c.EnableDAD, AcceptRA: r.AcceptRA(r.IPAM)})
	return append([]attach.Step{c.network(r, m)}, steps...), nil
}

// Status implements [cni.Statuser].
func (c *config) Status(*cni.Request) error { return ipvlan.Supported() }
