package link

import (
	"context"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
)

// maxPorts is how many ports the kernel lets a bridge have (BR_MAX_PORTS of
// net/bridge/br_private.h, less the number 0).
const maxPorts = 1<<10 - 1

// Status implements [attach.Statuser]: whether the name is free, or that of a bridge with
// room for another port. It lists the links.
func (b *Bridge) Status(context.Context, *attach.Store, string) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(b.Name)
	if iface.NotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.Kind != "bridge" {
		return fmt.Errorf("bridge %s: %w (it is %s)", b.Name, ErrWrongKind, kindOf(d))
	}
	ports, err := ports(c, d.Index)
	if err == nil && ports >= maxPorts {
		err = fmt.Errorf("bridge %s: %w", b.Name, ErrBridgeFull)
	}
	return err
}

// Ports counts the ports of a bridge, whoever made them; none of one that is not there. It
// lists the links.
func Ports(bridge string) (int, error) {
	c, err := iface.Dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	d, err := c.LinkByName(bridge)
	if iface.NotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return ports(c, d.Index)
}

// Grouped counts the host's ends of interfaces of containers on a network without a bridge,
// by its group. It lists the links.
func Grouped(group uint32) (count int, err error) {
	c, err := iface.Dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	all, err := c.LinksOfKind("veth")
	for _, l := range all {
		if l.Group == group {
			count++
		}
	}
	return count, err
}

func ports(c *iface.Conn, bridge int) (count int, err error) {
	all, err := c.Links()
	for _, l := range all {
		if l.Master == bridge {
			count++
		}
	}
	return count, err
}
