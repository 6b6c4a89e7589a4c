// None leaves a container alone in its namespace: lo is up, and that is all.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
)

var mode = cni.Mode{Name: "none", Joins: true, Config: func() cni.Config { return &config{} }}

func main() { cni.Main(mode) }

type config struct{ cni.Conf }

// Plan implements [cni.Config].
func (*config) Plan(r *cni.Request) ([]attach.Step, error) {
	r.RefuseAddress("a container on none has the address of lo only")
	r.IgnorePorts("a container on none has no address that they could lead to")
	return []attach.Step{&link.Loopback{}}, nil
}
