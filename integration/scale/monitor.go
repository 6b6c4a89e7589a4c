package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cni/berth/integration/cluster"
)

// event is a change of a host's kernel, as it tells whoever listens (rtnetlink(7),
// NFNLGRP_NFTABLES).
type event struct {
	at    time.Time
	kind  uint16 // of the message; nftables' have their subsystem in the first byte
	flags uint16
	body  []byte
}

// The events that are waited for. nftables' numbers are from nf_tables.h.
const (
	newRoute   = unix.RTM_NEWROUTE
	newEntry   = unix.RTM_NEWNEIGH
	newElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM
	delElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELSETELEM
	delRoute   = unix.RTM_DELROUTE
)

// monitor listens to a host's kernel: to its devices, addresses, neighbours, FDB,
// routes and nftables.
type monitor struct {
	events  chan event
	sockets []*os.File
	lost    atomic.Int64 // times that the kernel had no room for events
	ended   chan error
}

// newMonitor has room for so many events that nobody has asked for yet.
func newMonitor(h *cluster.Host, room int) (*monitor, error) {
	m := &monitor{events: make(chan event, room), ended: make(chan error, 2)}
	for _, s := range []struct {
		protocol int
		groups   []int
	}{
		{unix.NETLINK_ROUTE, []int{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
			unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE}},
		{unix.NETLINK_NETFILTER, []int{unix.NFNLGRP_NFTABLES}},
	} {
		var f *os.File
		err := h.Do(func() (err error) {
			f, err = listen(s.protocol, s.groups)
			return err
		})
		if err != nil {
			m.close()
			return nil, fmt.Errorf("listen to the kernel of host %s: %w", h.Name, err)
		}
		m.sockets = append(m.sockets, f)
		go m.read(f)
	}
	return m, nil
}

func listen(protocol int, groups []int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20))
	for _, g := range groups {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

func (m *monitor) read(f *os.File) {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		now := time.Now()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			m.lost.Add(1)
			continue
		case err != nil:
			m.ended <- err
			return
		}
		for rest := buf[:n]; len(rest) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.NLMSG_HDRLEN || size > len(rest) {
				break
			}
			e := event{now, binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint16(rest[6:]), bytes.Clone(rest[unix.NLMSG_HDRLEN:size])}
			select {
			case m.events <- e:
			default:
				m.lost.Add(1)
			}
			rest = rest[min((size+3)&^3, len(rest)):]
		}
	}
}

func (m *monitor) close() {
	for _, f := range m.sockets {
		f.Close()
	}
}

// drain throws away what has come so far, and counts it.
func (m *monitor) drain() int {
	for n := 0; ; n++ {
		select {
		case <-m.events:
		default:
			return n
		}
	}
}

// wait passes each event to wanted, until it says that it has what it wants.
func (m *monitor) wait(within time.Duration, wanted func(event) bool) error {
	timeout := time.After(within)
	for {
		select {
		case e := <-m.events:
			if wanted(e) {
				return nil
			}
		case err := <-m.ended:
			return err
		case <-timeout:
			return fmt.Errorf("the kernel has not changed as it shall within %v (%d times events were lost)", within, m.lost.Load())
		}
	}
}

// attribute is the value of an attribute of a message whose own header is so long.
func (e event) attribute(header int, kind uint16) []byte {
	for rest := e.body[min(header, len(e.body)):]; len(rest) >= 4; {
		size := int(binary.NativeEndian.Uint16(rest))
		if size < 4 || size > len(rest) {
			return nil
		}
		if binary.NativeEndian.Uint16(rest[2:]) == kind {
			return rest[4:size]
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return nil
}

// route is the destination of a route of ours (rtm_protocol 98) that is no rejection;
// not ok for another event.
func (e event) route() (dst netip.Prefix, ok bool) {
	if e.kind != newRoute && e.kind != delRoute || len(e.body) < unix.SizeofRtMsg || e.body[5] != 98 || e.body[7] != unix.RTN_UNICAST {
		return dst, false
	}
	addr, ok := netip.AddrFromSlice(e.attribute(unix.SizeofRtMsg, unix.RTA_DST))
	return netip.PrefixFrom(addr, int(e.body[1])), ok
}

// vtep is where an FDB entry leads; the zero Addr for another event.
func (e event) vtep() netip.Addr {
	if e.kind != newEntry || len(e.body) < unix.SizeofNdMsg || e.body[0] != unix.AF_BRIDGE {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(e.attribute(unix.SizeofNdMsg, unix.NDA_DST))
	return addr
}

// names tells whether an element of a set has the address in it.
func (e event) names(kind uint16, addr netip.Addr) bool {
	return e.kind == kind && bytes.Contains(e.body, addr.AsSlice())
}
