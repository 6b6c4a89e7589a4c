package link

import (
	"context"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

const loopback = "lo"

// Loopback is the step that sets lo up, upon which the kernel gives it 127.0.0.1
// and, where there is IPv6, ::1.
//
// A namespace has one lo, for all who are in it: Del leaves it up. The reference
// takes it down, and with it that of the host, or of another container, when the
// path has come to refer to their namespace. It goes with the namespace.
type Loopback struct{}

// Kind implements [attach.Step].
func (*Loopback) Kind() string { return "loopback" }

// Add sets lo up and adds it to the attachment's interfaces, and its addresses to
// the attachment's. That of the host, which may be what the path refers to, is
// only read.
func (*Loopback) Add(_ context.Context, a *attach.Adding) error {
	ns, err := netns.Open(a.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	own, err := ns.IsOwn()
	if err != nil {
		return err
	}
	c, err := iface.DialNetns(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := loopbackUp(c, own); err != nil {
		return err
	}
	i, prefixes, err := inspect(c, loopback)
	if err != nil {
		return err
	}
	a.Interfaces = append(a.Interfaces, attach.Interface{Name: loopback, MAC: i.MAC, Sandbox: a.Netns})
	a.Addresses = nil
	for _, p := range prefixes {
		if p.Addr().IsLoopback() {
			a.Addresses = append(a.Addresses, attach.Address{Prefix: p})
		}
	}
	return nil
}

// Del leaves lo, which belongs to the namespace.
func (*Loopback) Del(context.Context, *attach.Attachment) error { return nil }

// Check tells whether lo is up and has a loopback address.
func (*Loopback) Check(_ context.Context, a *attach.Attachment) error {
	c, err := iface.DialIn(a.Netns)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(loopback)
	if err != nil {
		return err
	}
	if d.Flags&unix.IFF_UP == 0 {
		return fmt.Errorf("interface %s in the container is down", loopback)
	}
	have, err := c.Prefixes(d.Index)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(have, isLoopback) {
		return fmt.Errorf("interface %s in the container has no loopback address", loopback)
	}
	return nil
}

// loopbackUp sets lo up where it is down. The host's is not ours to set.
func loopbackUp(c *iface.Conn, host bool) error {
	d, err := c.LinkByName(loopback)
	if err != nil || d.Flags&unix.IFF_UP != 0 {
		return err
	}
	if host {
		return fmt.Errorf("interface %s of the host is down", loopback)
	}
	if err := c.Send(rtnl.SetLink(d.Index, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set up %s: %w", loopback, err)
	}
	return nil
}
