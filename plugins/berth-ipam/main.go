// Berth-ipam is Berth's IPAM for other main plugins: they delegate to it by
// "ipam": {"type": "berth-ipam"}. Berth's own plugins have it built in.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/ipam"
)

var mode = cni.Mode{Name: ipam.BuiltInType, Leases: true, Config: func() cni.Config { return &config{} }}

func main() { cni.Main(mode) }

// config is all of the main plugin's configuration that the IPAM reads.
type config struct{ cni.Conf }

// Plan implements [cni.Config].
func (*config) Plan(r *cni.Request) ([]attach.Step, error) {
	if !r.IPAM.BuiltIn() && !r.Refused() && r.ContainerID != "" { // for STATUS the runtime's ranges are not known
		r.Refuse("ipam.type", r.IPAM.Type, "want %q and a subnet", ipam.BuiltInType)
	}
	return []attach.Step{r.Addresses(r.IPAM)}, nil
}
