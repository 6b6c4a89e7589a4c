// Host puts a container into the host's network namespace: it sees the host's
// interfaces, addresses, routes and ports.
package main

import (
	"context"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
)

func main() {
	cni.Main(cni.Mode{Name: "host", Config: func() cni.Config { return &config{} }})
}

type config struct{ cni.Conf }

// Plan implements [cni.Config].
func (*config) Plan(r *cni.Request) (*cni.Plan, error) {
	r.RefuseAddress("a container on host has the addresses of the host")
	return &cni.Plan{
		NoPorts: "a container on host has the host's own ports",
		Steps:   []attach.Step{&link.Rebind{}},
	}, nil
}

// Join implements [cni.Joiner]: the container gets the host's interface of the
// default route.
func (*config) Join(_ context.Context, r *cni.Request, _ *attach.Store, a *attach.Adding) error {
	if err := r.RefusePath(); err != nil {
		return err
	}
	return cni.JoinHost(a)
}
