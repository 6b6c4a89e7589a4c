package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// Repair implements [attach.Repairer]: it puts back more than Add, which must not list
// links or routes.
func (b *Bridge) Repair(ctx context.Context, a *attach.Adding) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, _, err := b.ready(ctx, c, a); err != nil {
		return err
	}
	d, err := c.LinkByName(b.Name)
	if err != nil {
		return err
	}
	return b.lookCloser(c, d, a.Attachment, true)
}

// lookCloser looks at what Add has no time for, and with repair puts it right.
func (b *Bridge) lookCloser(c *iface.Conn, d *rtnl.Link, a *attach.Attachment, repair bool) error {
	low, err := b.tooSmall(c, d)
	switch {
	case err != nil:
		return err
	case low != 0 && !repair:
		return fmt.Errorf("bridge %s has MTU %d, less than the %d of its network and its ports", b.Name, d.MTU, low)
	case low != 0:
		if err := c.Send(setMTU(d.Index, low)); err != nil {
			return fmt.Errorf("bridge %s: set MTU %d: %w", b.Name, low, err)
		}
	}
	if !b.Gateway {
		return nil
	}
	var errs []error
	for _, path := range b.forwards(a) {
		if have, err := proc.Read(path); err != nil || have != "0" {
			continue // a kernel without IPv6
		}
		if !repair {
			errs = append(errs, fmt.Errorf("the host does not forward what comes by bridge %s: %s is not 1", b.Name, path))
			continue
		}
		_, err := proc.Set(path, "1")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tooSmall returns the MTU that the bridge of a network with one of its own should have
// and has not; 0 when it has. It is never more than a port's: what is larger than a port
// takes would be dropped there, and nobody told.
func (b *Bridge) tooSmall(c *iface.Conn, d *rtnl.Link) (int, error) {
	if !b.FollowMTU || b.MTU <= d.MTU || d.Alias != iface.SharedAlias {
		return 0, nil
	}
	all, err := c.Links()
	if err != nil {
		return 0, err
	}
	want := b.MTU
	for _, p := range all {
		if p.Master == d.Index {
			want = min(want, p.MTU)
		}
	}
	if want <= d.MTU {
		return 0, nil
	}
	return want, nil
}

// forwards are the switches of what comes by the bridge, where the host's own is on
// ([Forwarding]).
func (b *Bridge) forwards(a *attach.Attachment) (paths []string) {
	if b.GatewayVLAN != 0 {
		return forwardingOf(b.vlanInterface(), a)
	}
	return forwardingOf(b.Name, a)
}

// reclaim puts the route to an address's own subnet in the place of one that somebody has
// put there by hand. The kernel's own, of another link in the same subnet, stays.
func reclaim(c *iface.Conn, index int, p netip.Prefix) error {
	if there, err := c.Connected(index, p); there || err != nil {
		return err
	}
	all, err := c.ListRoutes(rtnl.Family(p.Addr()), 0)
	if err != nil {
		return err
	}
	own := iface.ConnectedRoute(index, p)
	for _, r := range all {
		if r.Dst == own.Dst && r.Table == own.Table && r.Priority == own.Priority && r.TOS == 0 && r.Protocol == unix.RTPROT_KERNEL {
			return nil
		}
	}
	return c.Send(own.Put())
}
