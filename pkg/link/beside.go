package link

import (
	"context"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// A network that loses its bridge, or gets one, has containers of both kinds for a while.
// Those on the bridge take their whole subnet to be there. So a bridge that Berth made answers
// ARP and neighbor discovery for the others, and the host routes what it gets for them.

// beside has the bridge, if there is one, answer for a container that is not on it.
func (r *Routed) beside(c *iface.Conn, a *attach.Attachment) error {
	d, err := bridgeBeside(c, r.Beside)
	if d == nil || err != nil {
		return err
	}
	return answerFor(c, d, a)
}

// bridgeBeside is the bridge of that name that Berth made; nil when there is none.
func bridgeBeside(c *iface.Conn, name string) (*rtnl.Link, error) {
	if name == "" {
		return nil, nil
	}
	if _, err := c.Index(name); iface.NotExist(err) { // costs less than to ask for all of it
		return nil, nil
	}
	d, err := c.LinkByName(name)
	switch {
	case iface.NotExist(err):
		return nil, nil
	case err != nil:
		return nil, err
	case d.Kind != "bridge" || d.Alias != iface.SharedAlias:
		return nil, nil
	}
	return d, nil
}

// answerFor has a bridge answer for a container's addresses at once (proxy_arp, proxy_ndp and
// proxy_delay of ip-sysctl).
func answerFor(c *iface.Conn, bridge *rtnl.Link, a *attach.Attachment) error {
	if err := c.Send(rtnl.SetInet(bridge.Index, rtnl.ProxyARP, 1)); err != nil {
		return fmt.Errorf("have bridge %s answer ARP for others: %w", bridge.Name, err)
	}
	paths := map[string]string{proc.Net("ipv4", "neigh", bridge.Name, "proxy_delay"): "0"}
	if iface.HasIPv6(a) {
		paths[proc.Net("ipv6", "neigh", bridge.Name, "proxy_delay")] = "0"
		paths[proc.Net("ipv6", "conf", bridge.Name, "proxy_ndp")] = "1"
	}
	for path, value := range paths {
		if _, err := proc.Protect(path, value); err != nil {
			return err
		}
	}
	var b iface.Batch
	for _, addr := range a.Addresses {
		if ip := addr.Prefix.Addr(); ip.Is6() {
			b.Add(fmt.Sprintf("have bridge %s answer for %s", bridge.Name, ip), rtnl.AnswerFor(bridge.Index, ip))
		}
	}
	return b.Run(c)
}

// alone ends what beside has begun for a container.
func (r *Routed) alone(a *attach.Attachment) error {
	if r.Beside == "" || !iface.HasIPv6(a) {
		return nil
	}
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	index, err := c.Index(r.Beside)
	if err != nil {
		return nil // there is none
	}
	var reqs []*netlink.Request
	for _, addr := range a.Addresses {
		if ip := addr.Prefix.Addr(); ip.Is6() {
			reqs = append(reqs, rtnl.AnswerNot(index, ip))
		}
	}
	if err := c.Send(reqs...); err != nil && !iface.IsErrno(err, unix.ENOENT, unix.ENODEV) {
		return fmt.Errorf("end that bridge %s answers for %s: %w", r.Beside, a.Key, err)
	}
	return nil
}

// besideRouted has a bridge that is new to its network answer for the containers that were
// there before it.
func (b *Bridge) besideRouted(ctx context.Context, c *iface.Conn, a *attach.Adding) error {
	if !a.NetworkChanged || a.All == nil {
		return nil
	}
	all, err := a.All(ctx)
	if err != nil {
		return nil // its own ADD goes on: it has a bridge
	}
	for _, other := range all {
		if other.Network != a.Network || other.Deleting || !IsRouted(other) {
			continue
		}
		d, err := bridgeBeside(c, b.Name)
		if d == nil || err != nil {
			return err
		}
		if err := answerFor(c, d, other); err != nil {
			return err
		}
	}
	return nil
}
