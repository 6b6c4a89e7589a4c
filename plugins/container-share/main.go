// Container-share puts a container into the network namespace of another one: both
// see the same interfaces, addresses, ports and lo.
package main

import (
	"context"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
)

func main() {
	cni.Main(cni.Mode{Name: "container-share", Config: func() cni.Config { return &config{} }})
}

// Plan implements [cni.Config].
func (c *config) Plan(r *cni.Request) (*cni.Plan, error) {
	c.validate(r)
	return &cni.Plan{Steps: []attach.Step{&c.rebind}}, nil
}

// Join implements [cni.Joiner]: the container gets what the target has.
func (c *config) Join(ctx context.Context, r *cni.Request, s *attach.Store, a *attach.Adding) error {
	if err := r.RefusePath(); err != nil {
		return err
	}
	all, err := s.List(ctx, "")
	if err != nil {
		return err
	}
	t := c.find(r, all)
	if t == nil {
		return nil // refused
	}
	ns, cookie, err := t.open(r)
	if ns == nil {
		return err
	}
	defer ns.Close()
	host, err := ns.IsOwn()
	if err != nil {
		return err
	}
	if host { // the target is on host
		return cni.JoinHost(a)
	}
	t.recognise(all, cookie)
	c.rebind.From, c.rebind.Owner = t.path, t.owner()
	return t.describe(ns, cookie, a)
}
