// Host puts a container into the host's network namespace: it sees the host's
// interfaces, addresses, routes and ports.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
)

var mode = cni.Mode{Name: "host", Joins: true, Config: func() cni.Config { return &config{} }}

func main() { cni.Main(mode) }

type config struct{ cni.Conf }

// Plan implements [cni.Config].
func (*config) Plan(r *cni.Request) ([]attach.Step, error) {
	r.RefuseAddress("a container on host has the addresses of the host")
	r.RefusePolicy("a container on host reaches what the host does, and is reached as the host is")
	r.IgnorePorts("a container on host has the host's own ports")
	if r.Netns == "" || r.Refused() { // STATUS asks for no container
		return nil, nil
	}
	if err := r.RefusePath(); err != nil {
		return nil, err
	}
	host, err := link.ViewHost()
	if err != nil {
		return nil, err
	}
	return []attach.Step{&netns.Rebind{Sees: host}}, nil
}
