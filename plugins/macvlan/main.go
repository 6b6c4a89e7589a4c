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

var mode = cni.Mode{Name: "macvlan", Config: func() cni.Config { return &config{Mode: "bridge"} }}

func main() { cni.Main(mode) }

// Replaces implements [cni.Replacer].
func (c *config) Replaces() link.ForeignKind {
	return link.ForeignKind{Macvlan: true, On: c.Master, Inside: c.LinkInContainer}
}

// Plan implements [cni.Config].
func (c *config) Plan(r *cni.Request) ([]attach.Step, error) {
	c.validate(r)
	r.IgnorePorts("a macvlan container's ports are on its own address")
	m, err := c.findMaster(r)
	if err != nil {
		return nil, err
	}
	network := &attach.Network{Name: c.Name, Plugin: "macvlan", Link: m.name, Ranges: r.IPAM.Spans()}
	steps := r.Addressed(r.IPAM, &link.Gateway{NoDefault: r.KeepsDefaultRoute(), MAC: m.mac},
		m.subinterface(),
		c.shim(m.name),
		&macvlan.Interface{Master: m.name, Mode: c.Mode, MTU: c.MTU,
			QueueLen: c.BcQueueLen, Inside: c.LinkInContainer, DAD: c.EnableDAD, AcceptRA: r.AcceptRA(r.IPAM)})
	return append([]attach.Step{network}, steps...), nil
}

// shim is the step that has the host reach the container, if that is wanted.
func (c *config) shim(master string) attach.Step {
	if !c.HostShim {
		return nil
	}
	return &macvlan.HostShim{Master: master}
}
