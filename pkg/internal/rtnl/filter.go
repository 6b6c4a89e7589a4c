package rtnl

import (
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
	const all, none = 1<<32 - 1, 0
	ret := func(n uint32) bpf.Instruction { return bpf.RetConstant{Val: n} }
	// unless skips the next instruction, which returns.
	unless := func(cond bpf.JumpTest, v uint32) bpf.Instruction { return bpf.JumpIf{Cond: cond, Val: v, SkipTrue: 1} }

	route := []bpf.Instruction{
		bpf.LoadAbsolute{Off: origin, Size: 1}, unless(bpf.JumpNotEqual, uint32(protocol)), ret(all),
		bpf.LoadAbsolute{Off: flags, Size: 2}, unless(bpf.JumpBitsNotSet, netlink.Host16(unix.NLM_F_REPLACE)), ret(all),
		// The extension finds an attribute: from where in A, of the kind in X.
		bpf.LoadConstant{Dst: bpf.RegA, Val: attrs}, bpf.LoadConstant{Dst: bpf.RegX, Val: unix.RTA_OIF},
		bpf.LoadExtension{Num: bpf.ExtNetlinkAttr}, unless(bpf.JumpNotEqual, 0), ret(none),
		bpf.TAX{}, bpf.LoadIndirect{Off: unix.SizeofRtAttr, Size: 4},
	}
	other := []bpf.Instruction{
		bpf.LoadAbsolute{Off: index, Size: 4}, bpf.Jump{Skip: uint32(len(route))},
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: sender, Size: 4}, unless(bpf.JumpNotEqual, netlink.Host32(port)), ret(none),
		bpf.LoadAbsolute{Off: kind, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: netlink.Host16(unix.RTM_NEWROUTE), SkipTrue: uint8(1 + len(other))},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: netlink.Host16(unix.RTM_DELROUTE), SkipTrue: uint8(len(other))},
	}
	program = append(append(program, other...), route...)
	for _, l := range links { // the index is in A, either way
		program = append(program, unless(bpf.JumpNotEqual, netlink.Host32(uint32(l))), ret(all))
	}
	return append(program, ret(none))
}
