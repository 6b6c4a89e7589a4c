package vxlan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Filters that need no thought.
var (
	nothing    = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	everything = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}}
)

// attach tells the watcher's socket which devices are ours.
func (h *Host) attach() error {
	if !h.watched {
		return setFilter(h.events, nothing)
	}
	var indexes []int
	for _, p := range h.planes {
		if p.index != 0 {
			indexes = append(indexes, p.index)
		}
	}
	program := filter(h.conn.port, indexes)
	if len(program) > unix.BPF_MAXINSNS { // some two thousand networks
		program = everything
	}
	return setFilter(h.events, program)
}

func setFilter(socket *os.File, program []unix.SockFilter) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("filter netlink events: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("filter netlink events: %w", err)
	}
	return nil
}

// filter makes the kernel leave out what is not about our devices, or what we did
// ourselves: a busy host wakes nobody. Netlink has the machine's byte order, a filter
// reads the network's.
func filter(port uint32, indexes []int) []unix.SockFilter {
	op := func(code uint16, k uint32, jump ...uint8) unix.SockFilter {
		f := unix.SockFilter{Code: code, K: k}
		if len(jump) == 2 {
			f.Jt, f.Jf = jump[0], jump[1]
		}
		return f
	}
	const (
		load32  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		load16  = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		load8   = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyBit  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret     = unix.BPF_RET | unix.BPF_K
		all     = 1<<32 - 1
		sender  = 12                                   // nlmsg_pid
		kind    = 4                                    // nlmsg_type
		flags   = 6                                    // nlmsg_flags
		device  = unix.NLMSG_HDRLEN + 4                // the index in every other message
		origin  = unix.NLMSG_HDRLEN + 5                // rtm_protocol
		attrs   = unix.NLMSG_HDRLEN + unix.SizeofRtMsg // of a route
		nlattr  = 1<<32 - 0x1000 + 12                  // SKF_AD_OFF + SKF_AD_NLATTR: find an attribute
		payload = unix.SizeofRtAttr
	)
	program := []unix.SockFilter{
		op(load32, sender), op(equal, net32(port), 0, 1), op(ret, 0),
		op(load16, kind), op(equal, net16(unix.RTM_NEWROUTE), 3, 0), op(equal, net16(unix.RTM_DELROUTE), 2, 0),
		op(load32, device), op(unix.BPF_JMP|unix.BPF_JA, 13),
		// A route: ours, or one that replaced another, or through a device of ours.
		op(load8, origin), op(equal, protocol, 0, 1), op(ret, all),
		op(load16, flags), op(anyBit, net16(unix.NLM_F_REPLACE), 0, 1), op(ret, all),
		op(unix.BPF_LD|unix.BPF_IMM, attrs), op(unix.BPF_LDX|unix.BPF_IMM, unix.RTA_OIF), op(load32, nlattr),
		op(equal, 0, 0, 1), op(ret, 0),
		op(unix.BPF_MISC|unix.BPF_TAX, 0), op(unix.BPF_LD|unix.BPF_W|unix.BPF_IND, payload),
	}
	for _, i := range indexes {
		program = append(program, op(equal, net32(uint32(i)), 0, 1), op(ret, all))
	}
	return append(program, op(ret, 0))
}

func net32(v uint32) uint32 { return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, v)) }

func net16(v uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)))
}
