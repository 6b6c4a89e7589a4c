package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostLink is an interface of the host.
type hostLink struct {
	name   string
	kind   string // veth, bridge; empty for a device of the machine
	index  int
	master int // the bridge that it is a port of; 0: none
	mtu    int // bytes
	up     bool
	away   bool // its other end is in another namespace, which then lives
}

// hostLinks lists the interfaces of the calling thread's namespace, all of them with
// one question (rtnetlink(7), RTM_GETLINK).
func hostLinks() ([]hostLink, error) {
	data, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var all []hostLink
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		l := hostLink{ // struct ifinfomsg: family, padding, type, index, flags, change
			index: int(int32(binary.NativeEndian.Uint32(m.Data[4:]))),
			up:    binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_UP != 0,
		}
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.IFLA_IFNAME:
				l.name = zeroEnded(a.Value)
			case unix.IFLA_MTU:
				l.mtu = number32(a.Value)
			case unix.IFLA_MASTER:
				l.master = number32(a.Value)
			case unix.IFLA_LINK_NETNSID:
				l.away = true
			case unix.IFLA_LINKINFO:
				l.kind = linkKind(a.Value)
			}
		}
		all = append(all, l)
	}
	return all, nil
}

// linkKind finds IFLA_INFO_KIND in an IFLA_LINKINFO: attributes of 4 bytes of length
// and type, padded to 4.
func linkKind(data []byte) string {
	for len(data) >= unix.SizeofNlAttr {
		size, kind := int(binary.NativeEndian.Uint16(data)), binary.NativeEndian.Uint16(data[2:])
		if size < unix.SizeofNlAttr || size > len(data) {
			break
		}
		if kind == unix.IFLA_INFO_KIND {
			return zeroEnded(data[unix.SizeofNlAttr:size])
		}
		data = data[min(len(data), (size+3)&^3):]
	}
	return ""
}

func zeroEnded(b []byte) string { return strings.TrimRight(string(b), "\x00") }

func number32(b []byte) int {
	if len(b) != 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(b))
}

// linkNamed is the interface of that name.
func linkNamed(all []hostLink, name string) (hostLink, bool) {
	i := slices.IndexFunc(all, func(l hostLink) bool { return l.name == name })
	if i < 0 {
		return hostLink{}, false
	}
	return all[i], true
}

// devicesOf is what the overlay's checks know of interfaces.
func devicesOf(all []hostLink) map[string]device {
	by := map[string]device{}
	for _, l := range all {
		by[l.name] = device{l.up, l.mtu}
	}
	return by
}
