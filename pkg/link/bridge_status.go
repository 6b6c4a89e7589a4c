package link

import (
	"context"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
)

// maxPorts is how many ports the kernel lets a bridge have (BR_MAX_PORTS of
// net/bridge/br_private.h, less the number 0).
const maxPorts = 1<<10 - 1

// Status implements [attach.Statuser]: whether the name is free, or that of a bridge with
// room for another port. It lists the links.
func (b *Bridge) Status(context.Context, *attach.Store, string) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	d, err := c.LinkByName(b.Name)
	if notExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.Kind != "bridge" {
		return fmt.Errorf("bridge %s: %w (it is %s)", b.Name, ErrWrongKind, kindOf(d))
	}
	all, err := c.Links()
	if err != nil {
		return err
	}
	ports := 0
	for _, port := range all {
		if port.Master == d.Index {
			ports++
		}
	}
	if ports >= maxPorts {
		return fmt.Errorf("bridge %s: %w", b.Name, ErrBridgeFull)
	}
	return nil
}
