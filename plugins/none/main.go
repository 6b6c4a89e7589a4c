// None leaves a container alone in its namespace: lo is up, and that is all.
package main

import (
	"context"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
)

func main() {
	cni.Main(cni.Mode{Name: "none", Config: func() cni.Config { return &config{} }})
}

type config struct{ cni.Conf }

// Plan implements [cni.Config].
func (*config) Plan(r *cni.Request) (*cni.Plan, error) {
	r.RefuseAddress("a container on none has the address of lo only")
	return &cni.Plan{
		NoPorts: "a container on none has no address that they could lead to",
		Steps:   []attach.Step{&link.Loopback{}},
	}, nil
}

// Join implements [cni.Joiner]: the step finds lo.
func (*config) Join(context.Context, *cni.Request, *attach.Store, *attach.Adding) error {
	return nil
}
