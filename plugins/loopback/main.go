// Loopback sets lo up in a container's namespace: what containerd calls for every
// pod. Its DEL leaves lo alone, in whosever namespace the path may lead to by then.
package main

import "github.com/berth-cni/berth/pkg/cni"

func main() {
	cni.Main(cni.Mode{Name: "loopback", Config: func() cni.Config { return &cni.Loopback{} }})
}
