// Macvlan gives a container an interface on the network that an interface of the
// host, the master, is on: a MAC and addresses of its own, as if it were a machine
// there. Host and container cannot talk, unless hostShim is on.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
)

func main() {
	cni.Main(cni.Mode{Name: "macvlan", Config: func() cni.Config { return &config{Mode: "bridge"} }})
}

// Plan implements [cni.Config].
func (c *config) Plan(r *cni.Request) (*cni.Plan, error) {
	c.validate(r)
	if err := c.findMaster(r); err != nil {
		return nil, err
	}
	plan := &cni.Plan{
		Network: attach.Network{Name: c.Name, Plugin: "macvlan", Link: c.Master},
		MAC:     c.MAC,
		NoPorts: "a macvlan container's ports are on its own address",
	}
	if c.vlan != nil {
		plan.Steps = append(plan.Steps, c.vlan)
	}
	if c.HostShim {
		plan.Steps = append(plan.Steps, &link.HostShim{Master: c.Master})
	}
	plan.Steps = append(plan.Steps, &link.Macvlan{Master: c.Master, Mode: c.Mode, MTU: c.MTU,
		QueueLen: c.BcQueueLen, Inside: c.LinkInContainer, DAD: c.EnableDAD})
	return plan, nil
}
