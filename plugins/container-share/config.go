package main

import (
	"encoding/json"
	"path/filepath"

	"github.com/berth-cni/berth/pkg/cni"
)

type config struct {
	cni.Conf
	// Container names the target: its ID, the first characters of it, or its name.
	Container string `json:"container"`
	// NetnsPath is the target's namespace, in place of Container.
	NetnsPath string `json:"netnsPath"`
}

// validate notes every problem at the request, and returns the container that is named
// as the target: in the configuration, or by the runtime at ADD. Without one STATUS is
// good.
func (c *config) validate(r *cni.Request) (container string) {
	const why = "a container that shares another's namespace has the other's"
	r.RefuseAddress(why + " addresses")
	r.RefusePolicy(why + " network, and what that keeps it from")
	r.RefusePorts(why + " ports: publish them on that container")
	var args struct {
		CNI struct {
			Container string `json:"container"`
		} `json:"cni"`
	}
	if len(c.Args) > 0 {
		_ = json.Unmarshal(c.Args, &args) // what is wrong with it has been reported
	}
	container = c.Container
	for _, named := range []struct{ key, value string }{
		{"args.cni.container", args.CNI.Container}, {"CNI_ARGS CONTAINER", r.Args["CONTAINER"]},
	} {
		if named.value == "" {
			continue
		}
		if container != "" && container != named.value {
			r.Refuse(named.key, named.value, "another container, %q, is named, too", container)
		}
		container = named.value
	}
	if c.NetnsPath == "" {
		return container
	}
	if container != "" {
		r.Refuse("netnsPath", c.NetnsPath, "cannot be together with container %q", container)
	}
	if !filepath.IsAbs(c.NetnsPath) {
		r.Refuse("netnsPath", c.NetnsPath, "want an absolute path such as /run/netns/NAME")
	}
	return container
}
