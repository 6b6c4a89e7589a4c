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

// validate notes every problem at the request. Without a target STATUS is good: the
// runtime may name it at ADD.
func (c *config) validate(r *cni.Request) {
	const why = "a container that shares another's namespace has the other's"
	r.RefuseAddress(why + " addresses")
	r.RefusePorts(why + " ports: publish them on that container")
	var args struct {
		CNI struct {
			Container string `json:"container"`
		} `json:"cni"`
	}
	if len(c.Args) > 0 {
		_ = json.Unmarshal(c.Args, &args) // what is wrong with it has been reported
	}
	for _, named := range []struct{ key, value string }{
		{"args.cni.container", args.CNI.Container}, {"CNI_ARGS CONTAINER", r.Args["CONTAINER"]},
	} {
		if named.value == "" {
			continue
		}
		if c.Container != "" && c.Container != named.value {
			r.Refuse(named.key, named.value, "another container, %q, is named, too", c.Container)
		}
		c.Container = named.value
	}
	if c.NetnsPath == "" {
		return
	}
	if c.Container != "" {
		r.Refuse("netnsPath", c.NetnsPath, "cannot be together with container %q", c.Container)
	}
	if !filepath.IsAbs(c.NetnsPath) {
		r.Refuse("netnsPath", c.NetnsPath, "want an absolute path such as /run/netns/NAME")
	}
}
