package link

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var watchGroups = []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF}

// Watcher hears what happens to links, addresses and routes of a network namespace.
type Watcher struct{ events *netlink.Listener }

// Watch listens in the calling thread's network namespace, from now on.
func Watch() (*Watcher, error) {
	l, err := netlink.Listen(unix.NETLINK_ROUTE, 1<<20, ourChanges(), watchGroups...)
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	return &Watcher{l}, nil
}

// Close ends it.
func (w *Watcher) Close() error { return w.events.Close() }

// Run calls changed after something happened that a step may care about: a link came,
// went or was changed, an address or a connected route went, a default route came,
// forwarding was switched. Routes of a
// routing daemon wake nobody: the kernel drops their messages. Run blocks until the
// context ends, with nil, or the socket fails.
func (w *Watcher) Run(ctx context.Context, changed func(Change)) error {
	for {
		all, err := w.events.Receive(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			changed(Change{})
			continue
		case err != nil:
			return fmt.Errorf("watch interfaces: %w", err)
		}
		for m := range all {
			changed(changeOf(m))
		}
	}
}

// Change is what happened: the names of a link that is new, or that has gone; of all else
// nothing.
type Change struct{ New, Gone string }

// changeOf reads a message. Of a link that is new, ifi_change has all bits set.
func changeOf(m netlink.Message) (c Change) {
	const change = 12 // of struct ifinfomsg
	if len(m.Body) < unix.SizeofIfInfomsg {
		return c
	}
	switch name := unix.ByteSliceToString(m.Find(unix.SizeofIfInfomsg, unix.IFLA_IFNAME)); {
	case m.Kind == unix.RTM_DELLINK:
		c.Gone = name
	case m.Kind == unix.RTM_NEWLINK && string(m.Body[change:unix.SizeofIfInfomsg]) == "\xff\xff\xff\xff":
		c.New = name
	}
	return c
}

// ourChanges lets pass what [Watcher.Run] tells of.
func ourChanges() []bpf.Instruction {
	const (
		kind     = 4 // of struct nlmsghdr
		flags    = 6
		family   = unix.SizeofNlMsghdr     // of struct ifinfomsg
		bits     = unix.SizeofNlMsghdr + 1 // rtm_dst_len of struct rtmsg
		protocol = unix.SizeofNlMsghdr + 5 // rtm_protocol
	)
	load := func(i bpf.Instruction) []bpf.Instruction { return []bpf.Instruction{i} }
	pass, drop := netlink.Pass, netlink.Drop
	return slices.Concat(load(netlink.Load16(kind)),
		netlink.Case(netlink.Host16(unix.RTM_NEWLINK), // not a bridge's news of its ports
			slices.Concat(load(netlink.Load8(family)), netlink.Case(unix.AF_BRIDGE, drop), load(pass))...),
		netlink.Case(netlink.Host16(unix.RTM_NEWROUTE), slices.Concat(
			load(netlink.Load8(bits)), netlink.Case(0, pass),
			// A route that a person puts in the place of another, a connected one perhaps:
			// the kernel does not tell that this one has gone.
			load(netlink.Load8(protocol)), netlink.Case(unix.RTPROT_BOOT,
				slices.Concat(load(netlink.Load16(flags)), netlink.Case(netlink.Host16(unix.NLM_F_REPLACE), pass))...),
			load(drop))...),
		netlink.Case(netlink.Host16(unix.RTM_DELROUTE),
			slices.Concat(load(netlink.Load8(protocol)), netlink.Case(unix.RTPROT_KERNEL, pass), load(drop))...),
		netlink.Case(netlink.Host16(unix.RTM_NEWADDR), drop),
		netlink.Case(netlink.Host16(unix.RTM_DELNETCONF), drop),
		load(pass))
}
