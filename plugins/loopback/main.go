// Loopback sets lo up in a container's namespace: what containerd calls for every
// pod, beside the plugins of its network and at the same time. Its DEL leaves lo alone,
// in whosever namespace the path may lead to by then.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
)

var mode = cni.Mode{Name: "loopback", Unrecorded: true, Config: func() cni.Config { return &config{} }}

func main() { cni.Main(mode) }

type config struct{ cni.Conf }

// Plan implements [cni.Config].
func (*config) Plan(*cni.Request) ([]attach.Step, error) { return []attach.Step{&link.Loopback{}}, nil }
