package link

import (
	"fmt"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// wantedMTU is the configured one, or that of the way out; 0 when there is none.
func (b *Bridge) wantedMTU(c *iface.Conn) (int, error) {
	if b.MTU != 0 {
		return b.MTU, nil
	}
	_, mtu, err := c.WayOut()
	if err != nil {
		return 0, fmt.Errorf("find the MTU of the way out: %w", err)
	}
	return mtu, nil
}

// tooLarge tells whether the MTU of a bridge that is there has to become this one.
func (b *Bridge) tooLarge(d *rtnl.Link, mtu int) bool {
	follows := b.FollowMTU || b.MTU == 0 && b.Gateway
	return follows && mtu != 0 && mtu < d.MTU
}

func setMTU(index, mtu int) *netlink.Request {
	return rtnl.SetLink(index, 0).Uint32(unix.IFLA_MTU, uint32(mtu))
}
