// Container-share puts a container into the network namespace of another one: both
// see the same interfaces, addresses, ports and lo.
package main

import (
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link/netns"
)

var mode = cni.Mode{Name: "container-share", Joins: true, Config: func() cni.Config { return &config{} }}

func main() { cni.Main(mode) }

// Plan implements [cni.Config]: the container gets what the target has.
func (c *config) Plan(r *cni.Request) ([]attach.Step, error) {
	container := c.validate(r)
	if r.Netns == "" || r.Refused() { // STATUS: the runtime may name the target at ADD
		return nil, nil
	}
	if err := r.RefusePath(); err != nil {
		return nil, err
	}
	all, err := r.Records()
	if err != nil {
		return nil, err
	}
	t := c.find(r, container, all)
	if t == nil {
		return nil, nil // refused
	}
	rebind, err := t.join(r, all)
	if rebind == nil {
		return nil, err
	}
	return []attach.Step{rebind}, nil
}

// Verify implements [cni.Verifier]: the attachment whose namespace was joined is still
// on record.
func (c *config) Verify(r *cni.Request, a *attach.Attachment) error {
	rebind := netns.RebindOf(a)
	if rebind == nil || rebind.Owner == (attach.Key{}) {
		return nil
	}
	owner, err := r.Record(rebind.Owner)
	if errors.Is(err, attach.ErrNotFound) || err == nil && owner.Cookie != a.Cookie {
		return fmt.Errorf("the owner of the namespace is gone: %s", rebind.Owner)
	}
	return err
}
