// Macvlan gives a container an interface on the network that an interface of the
// host, the master, is on: a MAC and addresses of its own, as if it were a machine
// there. Host and container cannot talk, unless hostShim is on.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/macvlan"
)

var mode = cni.Mode{Name: "macvlan", Config: func() cni.Config { return &config{} }}

func main() { cni.Main(mode) }

// Replaces implements [cni.Replacer].
func (c *config) Replaces() link.ForeignKind {
	return link.ForeignKind{Child: "macvlan", On: c.Master, Inside: c.LinkInContainer}
}

// Plan implements [cni.Config].
func (c *config) Plan(r *cni.Request) ([]attach.Step, error) {
	c.validate(r)
	r.IgnorePorts("a macvlan container's ports are on its own address")
	m, err := c.FindMaster(r)
	if err != nil {
		return nil, err
	}
	network := &attach.Network{Name: c.Name, Plugin: "macvlan", Link: m.Name, Ranges: r.IPAM.Spans()}
	steps := r.Addressed(r.IPAM, &link.Gateway{NoDefault: r.KeepsDefaultRoute(), Priority: r.GatewayPriority(false), MAC: c.mac(r, m)},
		m.Subinterface(false),
		c.shim(m.Name),
		&macvlan.Interface{Master: m.Name, Mode: c.Mode, MTU: c.MTU,
			QueueLen: c.BcQueueLen, Inside: c.LinkInContainer, DAD: c.EnableDAD, AcceptRA: r.AcceptRA(r.IPAM)})
	return append([]attach.Step{network}, steps...), nil
}
