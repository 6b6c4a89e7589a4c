package rtnl

import (
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// EventsOf is a filter for a [netlink.Listener] that lets pass what is about some links,
// and of routes those of a protocol, those that replaced another, and those through one
// of the links. What the socket of a port caused itself it drops. So a busy host wakes
// nobody.
func EventsOf(links []int, protocol uint8, port uint32) []bpf.Instruction {
	const (
		kind   = 4                                    // of struct nlmsghdr: nlmsg_type,
		flags  = 6                                    // nlmsg_flags
		sender = 12                                   // nlmsg_pid
		index  = unix.NLMSG_HDRLEN + 4                // in the headers of all but routes
		origin = unix.NLMSG_HDRLEN + 5                // rtm_protocol
		attrs  = unix.NLMSG_HDRLEN + unix.SizeofRtMsg // of a route
	)
	// Both ways end with a link's index loaded, except where they have returned.
	route := slices.Concat(
		[]bpf.Instruction{netlink.Load8(origin)}, netlink.Case(uint32(protocol), netlink.Pass),
		[]bpf.Instruction{netlink.Load16(flags), bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: netlink.Host16(unix.NLM_F_REPLACE), SkipTrue: 1}, netlink.Pass},
		// The extension finds an attribute: from where in A, of the kind in X.
		[]bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: attrs}, bpf.LoadConstant{Dst: bpf.RegX, Val: unix.RTA_OIF}, bpf.LoadExtension{Num: bpf.ExtNetlinkAttr}},
		netlink.Case(0, netlink.Drop),
		[]bpf.Instruction{bpf.TAX{}, bpf.LoadIndirect{Off: unix.SizeofRtAttr, Size: 4}})
	other := []bpf.Instruction{netlink.Load32(index), bpf.Jump{Skip: uint32(len(route))}}
	isRoute := []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: netlink.Host16(unix.RTM_NEWROUTE), SkipTrue: uint8(1 + len(other))},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: netlink.Host16(unix.RTM_DELROUTE), SkipTrue: uint8(len(other))},
	}
	program := slices.Concat([]bpf.Instruction{netlink.Load32(sender)}, netlink.Case(netlink.Host32(port), netlink.Drop),
		[]bpf.Instruction{netlink.Load16(kind)}, isRoute, other, route)
	for _, l := range links {
		program = append(program, netlink.Case(netlink.Host32(uint32(l)), netlink.Pass)...)
	}
	return append(program, netlink.Drop)
}
